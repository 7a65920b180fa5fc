"""Repeated requests: an SDK sends a request again if its answer was lost, with the same `ClientRequestToken`.

The answers of the last minutes are kept in memory, so a repetition gets the first answer. SDKs make such a token for
each call by themselves.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

from cachetools import TTLCache

from service.errors import RepetitionDiffers

_MOST = 4096  # answers, of some hundred bytes each
_LIFETIME_S = 600.0

_Key = tuple[str, str, str]


class Repetitions:
    """Answers by key, operation and token. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without any answers.

        Args:
            clock: Returns seconds.
        """
        self._answers: TTLCache[_Key, tuple[bytes, dict[str, Any]]] = TTLCache(_MOST, _LIFETIME_S, clock)
        self._lock = threading.Lock()

    def find(self, key: str, operation: str, token: str, body: bytes) -> dict[str, Any] | None:
        """Return the answer of a request that was answered before; None if it was not.

        Raises:
            RepetitionDiffers: The token was used for another request.
        """
        with self._lock:
            found = self._answers.get((key, operation, token))
        if found is None:
            return None
        if found[0] != body:
            raise RepetitionDiffers("the ClientRequestToken was used for a request with other parameters")
        return found[1]

    def keep(self, key: str, operation: str, token: str, body: bytes, answer: dict[str, Any]) -> None:
        """Keep an answer; the oldest are dropped if there are too many."""
        with self._lock:
            self._answers[key, operation, token] = body, answer
