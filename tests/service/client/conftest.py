"""A real service in a process of its own, and clients of it."""

import subprocess
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from numpy.typing import NDArray

from service.client import Client
from tests.service.test_end_to_end import client_of, own_galleries, serving

_numbers = count()


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    with serving(own_galleries(tmp_path_factory.mktemp("served"))) as process, client_of(process):
        yield process


@pytest.fixture(scope="package")
def url(served: "subprocess.Popen[str]") -> str:
    return f"http://127.0.0.1:{served.port}"  # type: ignore[attr-defined]


@pytest.fixture(scope="package")
def vultus(url: str) -> Iterator[Client]:
    with Client(url, trust_env=False) as client:
        yield client


@pytest.fixture
def gallery(vultus: Client) -> str:
    """An empty gallery."""
    return vultus.create_gallery(f"gallery {next(_numbers)}").gallery


@pytest.fixture(scope="session")
def vectors() -> NDArray[np.float32]:
    """(4000, 128) float32: random embeddings, whose lines are 3 MB, more than the buffers of a connection."""
    return np.random.default_rng(7).normal(size=(4000, 128)).astype(np.float32)
