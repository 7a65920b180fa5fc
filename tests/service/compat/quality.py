"""Faces that are hardly recognisable, of which the fake engine has none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from fastapi.testclient import TestClient

from models.artefact.card import NormStatistics


@contextmanager
def hardly_recognisable_faces(client: TestClient) -> Iterator[None]:
    """Give all faces that the service sees the quality 0."""
    app: Any = client.app
    backend = app.state.backend
    high = NormStatistics(60.0, 0.7, 0.333)  # all norms are far below
    calibration = replace(
        backend.models.calibration, quality=replace(backend.models.calibration.quality, statistics=high)
    )
    app.state.backend = replace(backend, models=replace(backend.models, calibration=calibration))
    try:
        yield
    finally:
        app.state.backend = backend
