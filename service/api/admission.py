"""Admission of requests: a request that would wait too long is refused at once, so that its client can retry elsewhere.

A long queue keeps the machine busy as long as clients wait for each response before they send the next request. If
requests arrive faster than they can be answered, every queue overflows, and a long queue only increases the waiting
time. A refusal therefore shortens the queue. The queue returns to its full length after one second without another
refusal.

A request takes its place when its body is complete, because slow uploads must not occupy places that the processor
could use. A body that arrives promptly is counted from its first bytes, so that of many uploads that start together
only as many are read as there are places, and a connection that sends no body counts for nothing.

Every client that sends requests has a share of the places. If others fill all places, a client that holds less than its
share is admitted beyond them, so that no client can starve the others; a client that is alone may fill all places.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from service.errors import Overloaded

_SMOOTHING = 0.9  # weight of the past in the moving average of the time between two responses
_RELIEF_S = 1.0  # time without a refusal after which the overload is over
_PROMPT_S = 0.25  # 3 MB at 100 Mbit/s; a slow upload is counted for this time, and no longer


@dataclass(frozen=True, slots=True, eq=False)
class Arrival:
    """A request whose body is expected.

    Attributes:
        client: Client that sends it.
    """

    client: str


class Admission:
    """A bounded number of places for requests. Not thread-safe; for use on the event loop only."""

    def __init__(self, places: int, overload_places: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with all places free.

        Args:
            places: Maximum number of requests that compute or wait to compute.
            overload_places: The same maximum while the service is overloaded.
            clock: Returns the time in seconds.
        """
        self._places = places
        self._pressed = min(overload_places, places)
        self._inside: Counter[str] = Counter()  # requests that hold a place, by client
        self._announced: set[Arrival] = set()  # requests without any byte of their bodies yet
        self._arriving: dict[Arrival, float] = {}  # when each body began to arrive, oldest first
        self._arriving_by: Counter[str] = Counter()  # the same, counted by client
        self._clock = clock
        self._refused_at = -math.inf
        self._left_at: float | None = None
        self._gap = 0.0

    @property
    def places(self) -> int:
        """Maximum number of requests that compute or wait to compute."""
        return self._places

    @property
    def inside(self) -> int:
        """Number of requests that compute or wait to compute."""
        return self._inside.total()

    def require_room(self, client: str = "") -> None:
        """Refuse a request for which no place is free; called before its body is read.

        Args:
            client: Client that sends the request.

        Raises:
            Overloaded: All places are taken, and the client holds its share of them.
        """
        now = self._clock()
        places = self._places if now - self._refused_at > _RELIEF_S else self._pressed
        inside = self._inside.total()
        is_full = inside >= places or inside + self._count_arriving(now) >= self._places
        if is_full and not self._is_below_share(client):
            self._refused_at = now
            raise Overloaded("the service is overloaded; retry later", self._drain_time())

    @contextmanager
    def arrival(self, client: str = "") -> Iterator[Arrival]:
        """Expect the body of a request; yield what `begin` and `place` need to know it again.

        Args:
            client: Client that sends the request.

        Raises:
            Overloaded: All places are taken, and the client holds its share of them.
        """
        self.require_room(client)
        arrived = Arrival(client)
        self._announced.add(arrived)
        try:
            yield arrived
        finally:
            self._announced.discard(arrived)
            self._forget(arrived)

    def begin(self, arrived: Arrival) -> None:
        """Count a request for a short time from the first bytes of its body; later calls for it have no effect.

        Raises:
            Overloaded: All places are taken, and the client holds its share of them.
        """
        if arrived in self._announced:
            self.require_room(arrived.client)
            self._announced.remove(arrived)
            self._arriving[arrived] = self._clock()
            self._arriving_by[arrived.client] += 1

    @contextmanager
    def place(self, admitted: bool = False, arrived: Arrival | None = None) -> Iterator[None]:
        """Hold a place for the duration of the block.

        Args:
            admitted: Whether to hold a place even if all are taken, as for a stream that was admitted before.
            arrived: What `arrival` yielded for the request; while it is counted, the request has a place.

        Raises:
            Overloaded: All places are taken, and the client holds its share of them.
        """
        counted = arrived is not None and self._forget(arrived)
        client = arrived.client if arrived else ""
        if not (admitted or counted):
            self.require_room(client)
        self._inside[client] += 1
        try:
            yield
        finally:
            self._inside[client] -= 1
            if not self._inside[client]:
                del self._inside[client]
            self._record_response()

    def _is_below_share(self, client: str) -> bool:
        """Return whether others hold all places although a client holds less than its share of them."""
        held = self._inside + self._arriving_by
        if held.total() >= 2 * self._places or not held.keys() - {client}:
            return False
        return held[client] < max(1, self._places // len(held.keys() | {client}))

    def _count_arriving(self, now: float) -> int:
        """Count the bodies that arrive promptly, and no longer count the others."""
        while self._arriving:
            oldest = next(iter(self._arriving))
            if now - self._arriving[oldest] <= _PROMPT_S:
                break
            self._forget(oldest)
        return len(self._arriving)

    def _forget(self, arrived: Arrival) -> bool:
        """Count a body as arriving no longer, and return whether it was counted."""
        if self._arriving.pop(arrived, None) is None:
            return False
        self._arriving_by[arrived.client] -= 1
        return True

    def _record_response(self) -> None:
        now = self._clock()
        if self._left_at is not None:
            self._gap = _SMOOTHING * self._gap + (1 - _SMOOTHING) * (now - self._left_at)
        self._left_at = now if self._inside else None  # without requests, the next gap would include idle time

    def _drain_time(self) -> int:
        """Estimate the time until all admitted requests are answered, in whole seconds, at least 1."""
        return max(1, math.ceil(self._gap * self._inside.total()))


class BodyBudget:
    """A budget of bytes that request bodies hold in memory, including bodies that are still arriving.

    No client may take more than its part of it, so that stalled uploads of one leave room for others. Streams have a
    share of it, because they may hold their bytes for longer than a request may take.
    Not thread-safe; for use on the event loop only.
    """

    def __init__(self, max_bytes: int, client_bytes: int | None = None) -> None:
        """Start with the whole budget free.

        Args:
            max_bytes: Maximum size of all bodies.
            client_bytes: Maximum size of the bodies of one client; None for half of the budget.
        """
        self._left = max_bytes
        self._streamed = 0
        self._max_by_client = max_bytes // 2 if client_bytes is None else client_bytes
        self._by_client: Counter[str] = Counter()

    @contextmanager
    def account(self, streams_bytes: int | None = None, client: str = "") -> Iterator["BodyAccount"]:
        """Yield the account of a body; the end of the block returns its bytes.

        Args:
            streams_bytes: For a stream, the maximum size of what all streams hold; None for another body.
            client: Client that sends the body; empty for all clients without a key, which have no half of their own.
        """
        account = BodyAccount(self, streams_bytes, client)
        try:
            yield account
        finally:
            account.close()


class BodyAccount:
    """The bytes of one body in a budget. Not thread-safe; for use on the event loop only."""

    def __init__(self, budget: BodyBudget, streams_bytes: int | None = None, client: str = "") -> None:
        """Start without bytes; see `BodyBudget.account`."""
        self._client = client
        self._budget = budget
        self._streams_bytes = streams_bytes
        self._taken = 0

    def take(self, count: int) -> None:
        """Take bytes from the budget.

        Raises:
            Overloaded: Fewer bytes are left.
        """
        is_over = self._client and self._budget._by_client[self._client] + count > self._budget._max_by_client
        if count > self._budget._left or is_over:
            raise Overloaded("the bodies of concurrent requests exceed the memory budget; retry later", 1)
        if self._streams_bytes is not None:
            if self._budget._streamed + count > self._streams_bytes:
                raise Overloaded("concurrent streams exceed their share of the memory budget; retry later", 1)
            self._budget._streamed += count
        self._budget._left -= count
        self._budget._by_client[self._client] += count
        self._taken += count

    def give_back(self, count: int) -> None:
        """Return bytes to the budget, as the lines of a stream that are answered."""
        if self._streams_bytes is not None:
            self._budget._streamed -= count
        self._budget._left += count
        self._budget._by_client[self._client] -= count
        if not self._budget._by_client[self._client]:
            del self._budget._by_client[self._client]
        self._taken -= count

    def close(self) -> None:
        """Return all bytes to the budget."""
        self.give_back(self._taken)
