"""Receiving of bodies whose signatures cover them, so that anybody who knows the public id of a key may have sent them.

They have a share of the memory budget, and the clients of each key a part of it. Where it is full, the body that has
been arriving for longest gives way, so that uploads that stall do not keep out those that arrive promptly.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from fastapi import Request

from models.deadline import Deadline
from models.errors import EngineStopped
from service.api.admission import BodyAccount, BodyBudget
from service.api.intake.body import receive_pieces
from service.errors import Overloaded

PROMPT_S = 2.0
"""Time for which a body never gives way; 15 MiB arrive in it at 63 Mbit/s."""

_FULL = "the bodies of requests whose signatures are not verified yet exceed their share of the memory; retry later"


class _Upload:
    """A body that arrives."""

    def __init__(self, key_id: str, account: BodyAccount, since: float) -> None:
        self.key_id = key_id
        self.account = account
        self.since = since
        self.limit = asyncio.timeout(None)


class UnverifiedBodies:
    """Receives bodies before their signatures can be verified. For use on one event loop."""

    def __init__(self, bodies: BodyBudget, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Receive nothing yet.

        Args:
            bodies: Budget of the bytes that all bodies hold in memory.
            max_bytes: Share of it, which is at least two bodies; the clients of one key have half of it.
            clock: Returns seconds.
        """
        self._bodies = bodies
        self._max_bytes = max_bytes
        self._clock = clock
        self._uploads: dict[_Upload, int] = {}  # the bytes of each, oldest first
        self._by_key: Counter[str] = Counter()

    async def receive(self, request: Request, key_id: str, max_bytes: int, deadline: Deadline) -> list[bytes]:
        """Receive a body, whose bytes count no longer when this returns.

        Args:
            request: The request.
            key_id: Id of the key that the request names.
            max_bytes: Maximum size of the body.
            deadline: Deadline of the request.

        Raises:
            Overloaded: The share is full, or the body has given way to another.
            VultusError: As `receive_pieces`.
        """
        with self._bodies.account() as account:
            upload = _Upload(key_id, account, self._clock())
            self._uploads[upload] = 0
            try:
                async with upload.limit:
                    return await receive_pieces(request, max_bytes, partial(self._take, upload), deadline)
            except (EngineStopped, TimeoutError) as error:  # what a cancelled body becomes
                if upload.limit.expired():
                    raise Overloaded(_FULL, 1) from error
                raise
            finally:
                self._drop(upload)

    def _take(self, upload: _Upload, count: int) -> None:
        """Count bytes of a body.

        Raises:
            Overloaded: The share is full of bodies that arrive promptly, or the body has given way.
        """
        if upload not in self._uploads:
            raise Overloaded(_FULL, 1)
        while self._by_key[upload.key_id] + count > self._max_bytes // 2:
            self._give_way(upload, of_key=True)
        while self._by_key.total() + count > self._max_bytes:
            self._give_way(upload, of_key=False)
        upload.account.take(count)
        self._uploads[upload] += count
        self._by_key[upload.key_id] += count

    def _give_way(self, newer: _Upload, of_key: bool) -> None:
        """End the body that has been arriving for longest.

        Raises:
            Overloaded: All others arrive promptly, or hold nothing.
        """
        late = self._clock() - PROMPT_S
        for upload, size in self._uploads.items():
            if upload.since > late:
                break
            if upload is not newer and size and (upload.key_id == newer.key_id or not of_key):
                self._drop(upload)
                upload.limit.reschedule(asyncio.get_running_loop().time())
                return
        raise Overloaded(_FULL, 1)

    def _drop(self, upload: _Upload) -> None:
        """Count a body no longer."""
        with suppress(KeyError):
            self._by_key[upload.key_id] -= self._uploads.pop(upload)
            upload.account.close()
        if not self._by_key[upload.key_id]:
            del self._by_key[upload.key_id]
