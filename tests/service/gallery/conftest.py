"""Fixtures and synthetic embeddings for tests of galleries."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.gallery.galleries import Galleries
from service.gallery.index.live import IndexLimits
from service.gallery.records import NewTemplate

CONTRACT = "ec1-test"
DIMENSIONS = 32
UNEXPECTED = "does not belong to the galleries, and it may hold copies of erased data"
LIMITS = IndexLimits(max_flat_templates=1000, min_learned_templates=100)


def unit(vectors: NDArray[Any]) -> NDArray[np.float32]:
    normal: NDArray[np.float32] = (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)
    return normal


def people(subjects: int, each: int, seed: int = 0) -> NDArray[np.float32]:
    """Return synthetic embeddings, (subjects, each, D); those of one person have a mean cosine of about 0.6."""
    random = np.random.default_rng(seed)
    centres = unit(random.standard_normal((subjects, 1, DIMENSIONS)))
    return unit(centres + 0.8 / DIMENSIONS**0.5 * random.standard_normal((subjects, each, DIMENSIONS)))


def template(vector: NDArray[np.float32], norm: float | None = None, source: bytes | None = None) -> NewTemplate:
    return NewTemplate(vector, hashlib.sha256(source or vector.tobytes()).digest(), norm)


Open = Callable[..., Galleries]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Return a function that opens the galleries of one directory, after closing those opened before."""
    opened: list[Galleries] = []

    def again(contract_id: str = CONTRACT, limits: IndexLimits = LIMITS) -> Galleries:
        while opened:
            opened.pop().close()
        opened.append(Galleries(tmp_path / "galleries", contract_id, DIMENSIONS, limits=limits))
        return opened[-1]

    yield again
    while opened:
        opened.pop().close()


@pytest.fixture
def galleries(reopen: Open) -> Galleries:
    return reopen()
