"""Photos that are compared again and again: their faces are found and embedded once.

What is kept is what a gallery would keep, embeddings of people and no pictures, so it is bounded in number and time,
never written anywhere, and can be switched off.
"""

import hashlib
import threading
import time
from dataclasses import replace

import numpy as np
from cachetools import TTLCache

from models.detection.policy import FacePolicy
from models.pipeline import EmbeddedPhoto

_NO_CROP = np.empty((0, 0, 3), np.uint8)

_Key = tuple[bytes, FacePolicy]


class ReferenceCache:
    """Embedded photos by the SHA-256 of their file. Safe for use by several threads at once."""

    def __init__(self, most: int, lifetime_s: float) -> None:
        """Begin empty; at most so many faces are kept, none at all with 0."""
        self._kept: TTLCache[_Key, EmbeddedPhoto] = TTLCache(most, lifetime_s, _now, _faces)
        self._lock = threading.Lock()

    def find(self, image: bytes, policy: FacePolicy) -> EmbeddedPhoto | None:
        """Return what was kept of a photo under that policy."""
        if not self._kept.maxsize:
            return None
        with self._lock:
            return self._kept.get(_key(image, policy))

    def keep(self, image: bytes, policy: FacePolicy, photo: EmbeddedPhoto) -> None:
        """Keep what was found in a photo, but for the crops; the one that was longest unused gives way."""
        if _faces(photo) <= self._kept.maxsize:
            faces = [replace(face, crop=_NO_CROP) for face in photo.faces]
            with self._lock:
                self._kept[_key(image, policy)] = replace(photo, faces=faces)


_clock = time.monotonic


def _now() -> float:
    return _clock()


def _faces(photo: EmbeddedPhoto) -> int:
    return max(1, len(photo.faces))


def _key(image: bytes, policy: FacePolicy) -> _Key:
    return hashlib.sha256(image).digest(), policy
