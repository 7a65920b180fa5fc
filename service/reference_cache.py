"""Photos that are compared again and again: their faces are found and embedded once.

What is kept is what a gallery would keep, embeddings of people, so it is bounded in number and time, never written
anywhere, and can be switched off.
"""

import hashlib
import threading

from cachetools import TTLCache

from models.cropping import FacePolicy
from models.pipeline import EmbeddedPhoto

_Key = tuple[bytes, FacePolicy]


class ReferenceCache:
    """Embedded photos by the SHA-256 of their file. Safe for use by several threads at once."""

    def __init__(self, most: int, lifetime_s: float) -> None:
        """Begin empty; with `most` 0 nothing is ever kept."""
        self._kept: TTLCache[_Key, EmbeddedPhoto] = TTLCache(most, lifetime_s)
        self._lock = threading.Lock()

    def find(self, image: bytes, policy: FacePolicy) -> EmbeddedPhoto | None:
        """Return what was kept of a photo under that policy."""
        if not self._kept.maxsize:
            return None
        with self._lock:
            return self._kept.get(_key(image, policy))

    def keep(self, image: bytes, policy: FacePolicy, photo: EmbeddedPhoto) -> None:
        """Keep what was found in a photo; the one that was longest unused gives way."""
        if self._kept.maxsize:
            with self._lock:
                self._kept[_key(image, policy)] = photo


def _key(image: bytes, policy: FacePolicy) -> _Key:
    return hashlib.sha256(image).digest(), policy
