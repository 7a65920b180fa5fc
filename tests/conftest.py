"""Shared fixtures: real packs, real faces if available, and models without an engine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from numpy.typing import NDArray

from models.alignment import TEMPLATES
from models.artefact.card import Card, DetectorCard, NormStatistics
from models.calibration import Bound, Calibration, OperatingPoint, ScoreMap
from models.deadline import Deadline
from models.detection import Face
from models.embedding import Embedder
from models.hub.library import import_library
from models.packs import PackStore, find_manifest
from models.pipeline import Pipeline
from models.quality import GeometryRange, QualityScale
from models.runtime.fake import FakeSession, fake_embedding
from models.serving.load import load_models
from models.serving.models import Models
from service.app import create_app
from service.gallery.galleries import Galleries
from service.gallery.index.live import IndexLimits
from service.settings import Settings, load_settings
from tests.client import Guarded, api_client, guarded_client
from tests.hub_server import FakeHub, fake_hub

ROOT = Path(__file__).parent.parent

collect_ignore = ["gpu_wheels"]  # `make test-gpu-wheels` runs them in an environment of their own, without this file


@pytest.fixture(scope="session")
def shared() -> Path:
    """Directory of data that is not part of the project: real faces, reference models."""
    path = Path(os.environ.get("VULTUS_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"VULTUS_SHARED is not set and there is no directory {path.name} beside the checkout")
    return path


@pytest.fixture(scope="session")
def store() -> PackStore:
    return PackStore(load_settings().packs_dir)


@pytest.fixture(scope="session")
def real_models(store: PackStore) -> Models:
    return load_models(store, find_manifest("opencv-zoo"))


@pytest.fixture(scope="session")
def photos(store: PackStore) -> Path:
    return store.verify(find_manifest("demo-photos"))


@contextmanager
def galleries_for(models: Models, directory: Path, limits: IndexLimits | None = None) -> Iterator[Galleries]:
    galleries = Galleries(directory, models.contract_id, models.recognizer.dimensions, limits=limits)
    try:
        yield galleries
    finally:
        galleries.close()


@pytest.fixture(scope="session")
def real_client(real_models: Models, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with (
        galleries_for(real_models, tmp_path_factory.mktemp("galleries")) as galleries,
        api_client(create_app(real_models, galleries, Settings())) as client,
    ):
        yield client


class FakeDetector:
    """A detector that finds faces side by side, as many as the red value of the first pixel."""

    family = "fake"
    max_side_px = 640

    def detect(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:  # noqa: ARG002
        count = int(image[0, 0, 0])
        points = np.array(TEMPLATES["arcface-112"].points, np.float32) / 4
        return [
            Face(
                np.array([8 * n, 0, 8 * n + 8 + n, 20], np.float32), np.add(points, [8 * n, 0]), max(0.0, 0.9 - n / 100)
            )
            for n in range(count)
        ]

    def raster_scale(self, width: int, height: int) -> float:
        return self.max_side_px / max(width, height)

    def confirm(self, image: NDArray[np.uint8], faces: list[Face], deadline: Deadline | None = None) -> list[Face]:  # noqa: ARG002
        return faces


@pytest.fixture
def fake_models() -> Models:
    return models_without_weights()


def models_without_weights(dimensions: int = 128) -> Models:
    template = TEMPLATES["arcface-112"]
    embedder = FakeSession(partial(fake_embedding, size=dimensions))
    card = Card("fake", "fake", "none", "none", "0" * 64, 1, 112, 112, dimensions, template.name, {"color": "rgb"}, {})
    return Models(
        pipeline=Pipeline(FakeDetector(), Embedder(embedder, template)),
        pack="fake",
        recognizer=card,
        detector=DetectorCard("fake", "none", "0" * 64, 1, {}),
        contract_id=card.contract_id("fake"),
        calibration=fake_calibration(card.contract_id("fake")),
        uncalibrated_because=None,
        embedder_session=embedder.describe(),
        detector_session=embedder.describe(),
    )


def fake_calibration(contract_id: str = "ec1-x") -> Calibration:
    """Return a plausible calibration; the norms of the fake session are 11.3 ± 0.7."""
    points = (
        OperatingPoint(
            "fmr_1e-2",
            1e-2,
            0.3,
            (0.007, 0.014),
            (0.29, 0.31),
            0.006,
            (0.004, 0.008),
            3000,
            "a test",
            0.01,
            0.01,
            0.02,
            (0.01, 0.04),
        ),
        OperatingPoint(
            "fmr_1e-3", 1e-3, 0.4, (0.0002, 0.003), (0.38, 0.43), 0.013, (0.01, 0.02), 300, "a test", 0.001, 0.02
        ),
    )
    return Calibration(
        contract_id=contract_id,
        default="fmr_1e-3",
        points=points,
        bound=Bound(0.7, 1e-5),
        score_map=ScoreMap("logistic", ((-1.0, -10.0), (0.4, 0.0), (1.0, 9.0)), 0.02, 0.01, 0.001, 10, "a test"),
        quality=QualityScale(
            NormStatistics(11.3, 0.7, 0.333), "measured", True, None, {"subjects": 99}, GeometryRange(4.0, 1.0, 1.0)
        ),
        conditions={"engine": "fake", "precision": "fp32"},
    )


@pytest.fixture
def galleries(fake_models: Models, tmp_path: Path) -> Iterator[Galleries]:
    with galleries_for(fake_models, tmp_path / "galleries") as galleries:
        yield galleries


@pytest.fixture
def client(fake_models: Models, galleries: Galleries, tmp_path: Path) -> Iterator[TestClient]:
    with guarded_client(fake_models, galleries, tmp_path / "security", open_to="loopback") as guarded:
        yield guarded.client


@pytest.fixture
def guarded(fake_models: Models, galleries: Galleries, tmp_path: Path) -> Iterator[Guarded]:
    with guarded_client(fake_models, galleries, tmp_path / "security") as guarded:
        yield guarded


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A local Hub, which this process and those that it starts use, with an empty cache and without a token.

    The library reads its environment when it is imported, so its constants are replaced too.
    """
    if find_spec("huggingface_hub") is None:
        pytest.skip("huggingface_hub, the extra `hub`, is not installed")
    constants = import_library().constants
    with fake_hub() as served:
        cache = tmp_path / "hub-cache"
        environment = {"HF_ENDPOINT": served.url, "HF_HUB_CACHE": str(cache), "HF_HOME": str(tmp_path / "hub-home")}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_OIDC_RESOURCE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        template = served.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hub-home/token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield served
