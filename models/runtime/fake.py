"""A session without an engine, for tests of everything around it: deterministic, instant, no weights."""

import hashlib
from collections.abc import Callable

import numpy as np

from models.runtime.session import Arrays, BucketedSession, EngineName, Images, SessionDescription

ENGINE: EngineName = "fake"


class FakeSession(BucketedSession):
    """Answers with the arrays that a plain function gives for each picture."""

    def __init__(self, answer: Callable[[Images], Arrays]) -> None:
        """Wrap a function that takes (H, W, 3) uint8 and gives one array for each output, without the batch axis."""
        self._answer = answer

    def describe(self) -> SessionDescription:
        """See `Session.describe`."""
        return SessionDescription(engine=ENGINE, version="0", provider="none", precision="fp32", threads=1)

    def _run_bucket(self, images: Images) -> Arrays:
        answers = [self._answer(image) for image in images]
        return tuple(np.stack(arrays).astype(np.float32) for arrays in zip(*answers, strict=True))


def fake_embedding(image: Images, size: int = 128) -> Arrays:
    """Give an embedding that depends on the pixels alone: equal crops match, different ones do not."""
    seed = int.from_bytes(hashlib.sha256(image.tobytes()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=size)
    norm = np.linalg.norm(vector)
    return np.asarray(vector / norm, dtype=np.float32), np.asarray(norm, dtype=np.float32)
