"""A session without an engine, for tests: deterministic, instant, no weights."""

import hashlib
from collections.abc import Callable

import numpy as np

from models.runtime.session import Arrays, BucketedSession, EngineName, Images, SessionDescription

ENGINE: EngineName = "fake"


class FakeSession(BucketedSession):
    """A session that computes each image with a plain function."""

    def __init__(self, answer: Callable[[Images], Arrays]) -> None:
        """Wrap a function that takes (H, W, 3) uint8 and returns one array per output, without the batch axis."""
        self._answer = answer

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return SessionDescription(engine=ENGINE, version="0", provider="none", precision="fp32", threads=1)

    def _run_bucket(self, images: Images) -> Arrays:
        answers = [self._answer(image) for image in images]
        return tuple(np.stack(arrays).astype(np.float32) for arrays in zip(*answers, strict=True))


def fake_embedding(image: Images, size: int = 128) -> Arrays:
    """Return an embedding and its norm that depend on the pixels only: equal crops match, different crops do not."""
    seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=size)
    norm = np.linalg.norm(vector)
    return np.asarray(vector / norm, dtype=np.float32), np.asarray(norm, dtype=np.float32)
