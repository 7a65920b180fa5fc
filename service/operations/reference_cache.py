"""A cache of reference photos, so that a photo that is compared repeatedly is embedded once.

The cache holds embeddings of people, without any pixels. It is bounded in size and time, is never written to the disk,
and can be disabled.
"""

import hashlib
import threading
import time

from cachetools import TTLCache

from models.detection.policy import FacePolicy
from models.pipeline import EmbeddedPhoto

_Key = tuple[bytes, FacePolicy]


class ReferenceCache:
    """Embedded photos by the SHA-256 of their file and the policy that selected their faces. Thread-safe."""

    def __init__(self, max_faces: int, lifetime_s: float) -> None:
        """Create an empty cache.

        Args:
            max_faces: Maximum number of faces in the cache; 0 disables it.
            lifetime_s: Seconds for which a photo stays in the cache.
        """
        self._photos: TTLCache[_Key, EmbeddedPhoto] = TTLCache(max_faces, lifetime_s, _now, _face_count)
        self._lock = threading.Lock()

    def find(self, image: bytes, policy: FacePolicy) -> EmbeddedPhoto | None:
        """Return the embedded photo for a file and a policy, or None if it is not in the cache."""
        if not self._photos.maxsize:
            return None
        with self._lock:
            return self._photos.get(_key(image, policy))

    def add(self, image: bytes, policy: FacePolicy, photo: EmbeddedPhoto) -> None:
        """Add an embedded photo; a full cache drops the least recently used photos.

        A photo with more faces than the cache can hold is not added.
        """
        if _face_count(photo) <= self._photos.maxsize:
            with self._lock:
                self._photos[_key(image, policy)] = photo


_clock = time.monotonic


def _now() -> float:
    return _clock()


def _face_count(photo: EmbeddedPhoto) -> int:
    return max(1, len(photo.faces))


def _key(image: bytes, policy: FacePolicy) -> _Key:
    return hashlib.sha256(image).digest(), policy
