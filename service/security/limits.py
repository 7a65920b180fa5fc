"""Limits of keys: requests in a window of time, and requests at the same time.

The headers are those of draft-ietf-httpapi-ratelimit-headers-10, so that clients can slow down before they are refused.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import MovingWindowRateLimiter, SlidingWindowCounterRateLimiter

from service.errors import RateExceeded, TooManyAtOnce
from service.security.keys.rates import parse_rate
from service.security.keys.store import Key

_EXACT_REQUESTS = 1000  # of a window, each of which is remembered; of more, the library counts those of two windows
_RETRY_S = 1  # after which a client may find one of its own requests ended


class Counted(NamedTuple):
    """A request that was counted.

    Attributes:
        headers: What its client is told of the rate, accepted or not.
        refusal: The error of the request if its key has sent more than its rate allows.
    """

    headers: dict[str, str]
    refusal: RateExceeded | None = None


class KeyLimits:
    """The limits of all keys. For use on one event loop."""

    def __init__(self) -> None:
        """Start without any requests."""
        self._storage = MemoryStorage()
        self._exact = MovingWindowRateLimiter(self._storage)
        self._approximate = SlidingWindowCounterRateLimiter(self._storage)
        self._in_progress: Counter[str] = Counter()
        self._latest = time.time()  # the clock of the library

    async def count(self, key: Key) -> Counted:
        """Count a request against the rate of its key."""
        if key.rate is None:
            return Counted({})
        await self._begin_anew_if_the_clock_went_back()
        allowed, window_s = parse_rate(key.rate)
        limit = RateLimitItemPerSecond(allowed, window_s)
        windows = self._exact if allowed <= _EXACT_REQUESTS else self._approximate
        accepted = await windows.hit(limit, key.id)
        window = await windows.get_window_stats(limit, key.id)
        reset_s = min(window_s, max(1, math.ceil(window.reset_time - time.time())))
        headers = {
            "RateLimit-Policy": f'"key";q={allowed};w={window_s}',
            "RateLimit": f'"key";r={max(0, window.remaining)};t={reset_s}',
        }
        if accepted:
            return Counted(headers)
        return Counted(headers, RateExceeded(f"the key may send {key.rate} requests; retry later", reset_s))

    @contextmanager
    def in_progress(self, key: Key) -> Iterator[None]:
        """Count a request as in progress until the block ends.

        Raises:
            TooManyAtOnce: The key has as many requests in progress as it may.
        """
        if key.concurrency is not None and self._in_progress[key.id] >= key.concurrency:
            raise TooManyAtOnce(
                f"the key may have {key.concurrency} requests in progress at the same time; retry later", _RETRY_S
            )
        self._in_progress[key.id] += 1
        try:
            yield
        finally:
            self._in_progress[key.id] -= 1
            if not self._in_progress[key.id]:
                del self._in_progress[key.id]

    async def _begin_anew_if_the_clock_went_back(self) -> None:
        """Forget all windows if the clock was set back, because they would last until it is as late again."""
        now = time.time()
        if now < self._latest - 1:
            await self._storage.reset()
        self._latest = now
