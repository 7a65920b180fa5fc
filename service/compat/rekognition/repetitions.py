"""Repeated requests: an SDK sends a request again if its answer was lost, with the same `ClientRequestToken`.

The answers of the last minutes are kept in memory, so a repetition gets the first answer; while the first request is
being answered, repetitions wait for it. SDKs make such a token for each call by themselves. Of a request only a digest
is kept, because its body may be large.
"""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from cachetools import TTLCache

from models.deadline import Deadline
from service.compat.rekognition.signature import digest_of
from service.errors import RepetitionDiffers

MAX_BYTES = 16 * 2**20
"""Maximum size of all answers that are kept."""

MAX_CLIENT_BYTES = 2**20
"""Maximum size of those of one key: some 1,500 of usual size."""

LIFETIME_S = 600.0
"""Time for which an answer is kept."""

_ENTRY_BYTES = 600  # what an answer holds in memory beside its bytes

_Call = tuple[str, str]  # operation and token


class FirstInProgress(Exception):
    """A request with the same token is being answered.

    Attributes:
        ended: Set when it has ended, with or without an answer.
        pieces: Pieces of the body of the repetition, which may become the first.
        deadline: Deadline of the repetition.
    """

    def __init__(self, ended: asyncio.Event, pieces: Sequence[bytes], deadline: Deadline) -> None:
        """Name what to wait for, and until when."""
        super().__init__("a request with the same token is being answered")
        self.ended = ended
        self.pieces = pieces
        self.deadline = deadline


class _Kept(NamedTuple):
    digest: str
    collection: int
    answer: bytes

    @property
    def size(self) -> int:
        return len(self.answer) + _ENTRY_BYTES


class Attempt:
    """A request that may be a repetition, or the first to be answered."""

    def __init__(self, repetitions: "Repetitions", client: str, operation: str) -> None:
        """Begin without a token; see `Repetitions.attempt`."""
        self.ended = asyncio.Event()
        self.has_ended = False  # as the event, for other threads
        self.client = client
        self.call: _Call | None = None
        self.digest = ""
        self.collection = 0
        self._operation = operation
        self._repetitions = repetitions

    def begin(self, token: str, pieces: Sequence[bytes], collection: int, deadline: Deadline) -> bytes | None:
        """Return the answer of the first request; None if this is the first, for which repetitions then wait.

        Args:
            token: Token of the request.
            pieces: Pieces of the body of the request.
            collection: Row key of its gallery, which another gallery of the same name does not have.
            deadline: Deadline of the request.

        Raises:
            RepetitionDiffers: The token was used for another request.
            FirstInProgress: The first request has no answer yet.
        """
        self.call = self._operation, token
        self.digest = digest_of(pieces)
        self.collection = collection
        found = self._repetitions._begin(self)
        if isinstance(found, Attempt):
            raise FirstInProgress(found.ended, pieces, deadline)
        return found

    def keep(self, answer: bytes) -> None:
        """Keep the answer of the first request, if it has a token."""
        if self.call is not None:
            self._repetitions._keep(self.client, self.call, _Kept(self.digest, self.collection, answer))


class Repetitions:
    """Answers by key, operation and token. Attempts begin and end on one event loop, and may be used on any thread."""

    def __init__(
        self,
        max_bytes: int = MAX_BYTES,
        max_client_bytes: int = MAX_CLIENT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without any answers.

        Args:
            max_bytes: Maximum size of all answers; beyond it, those of the key that has the most are dropped.
            max_client_bytes: Maximum size of the answers of one key; beyond it, its own are dropped.
            clock: Returns seconds.
        """
        self._max_bytes = max_bytes
        self._max_client_bytes = max_client_bytes
        self._clock = clock
        self._kept: dict[str, TTLCache[_Call, _Kept]] = {}
        self._firsts: dict[tuple[str, _Call], Attempt] = {}
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Size of all answers that are kept, in bytes."""
        return int(sum(kept.currsize for kept in self._kept.values()))

    @contextmanager
    def attempt(self, client: str, operation: str) -> Iterator[Attempt]:
        """Yield what a request needs to know whether it is a repetition; repetitions wait for the end of the block."""
        attempt = Attempt(self, client, operation)
        try:
            yield attempt
        finally:
            with self._lock:
                attempt.has_ended = True
                if attempt.call and self._firsts.get((client, attempt.call)) is attempt:
                    del self._firsts[client, attempt.call]
            attempt.ended.set()

    def _begin(self, attempt: Attempt) -> bytes | Attempt | None:
        """Return an answer, the attempt to wait for, or None for the first."""
        assert attempt.call is not None
        with self._lock:
            of_client = self._kept.get(attempt.client)
            kept = None if of_client is None else of_client.get(attempt.call)
            first = self._firsts.get((attempt.client, attempt.call))
            earlier = kept or first
            if earlier is not None and earlier.digest != attempt.digest:
                raise RepetitionDiffers("the ClientRequestToken was used for a request with other parameters")
            if kept is not None and kept.collection == attempt.collection:
                return kept.answer
            if first is not None:
                return first
            if not attempt.has_ended:  # its thread may outlive the request
                self._firsts[attempt.client, attempt.call] = attempt
        return None

    def _keep(self, client: str, call: _Call, answer: _Kept) -> None:
        with self._lock:
            if answer.size > self._max_client_bytes:
                return
            if client not in self._kept:
                self._kept[client] = TTLCache(self._max_client_bytes, LIFETIME_S, self._clock, lambda kept: kept.size)
            self._kept[client][call] = answer
            self._kept = {client: kept for client, kept in self._kept.items() if len(kept)}  # `len` counts live ones
            while self.size > self._max_bytes:
                max(self._kept.values(), key=lambda kept: kept.currsize).popitem()
