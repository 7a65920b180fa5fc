"""Fixtures and synthetic embeddings for tests of galleries."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from service.encryption.data_keys import DATA_KEYS
from service.encryption.source import MasterKeySource
from service.gallery.encryption import Encryption
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

MASTER_KEY = bytes(range(32)).hex()


def encryption_in(directory: Path) -> Encryption:
    """Return the encryption of a test, with its data keys below a directory."""
    return Encryption(directory / "encryption" / DATA_KEYS, MasterKeySource(text=MASTER_KEY))


@pytest.fixture(params=["plain", "encrypted"])
def encryption(request: pytest.FixtureRequest, tmp_path: Path) -> Encryption | None:
    """Let every test of galleries run without and with encryption at rest."""
    return encryption_in(tmp_path) if request.param == "encrypted" else None


@pytest.fixture
def reopen(tmp_path: Path, encryption: Encryption | None) -> Iterator[Open]:
    """Return a function that opens the galleries of one directory, after closing those opened before."""
    opened: list[Galleries] = []

    def again(contract_id: str = CONTRACT, limits: IndexLimits = LIMITS) -> Galleries:
        while opened:
            opened.pop().close()
        directory = tmp_path / "galleries"
        opened.append(Galleries(directory, contract_id, DIMENSIONS, limits=limits, encryption=encryption))
        return opened[-1]

    yield again
    while opened:
        opened.pop().close()


@pytest.fixture
def galleries(reopen: Open) -> Galleries:
    return reopen()
