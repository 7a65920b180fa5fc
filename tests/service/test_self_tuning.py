"""A machine that was never tuned is measured while the service runs, and requests move to the fastest models."""

import gc
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from models.errors import EngineStopped
from models.packs import PackStore
from models.serving.models import Models
from models.serving.tuning import read_tuning
from models.serving.tuning.graphs import tuning_key
from service.app import create_app, switch_models
from service.metrics.instruments import Metrics
from service.self_tuning import SelfTuning, describe_tuning, tune_if_untuned
from service.settings import Settings
from service.startup import load_configured_models, sharing_of
from tests.client import api_client
from tests.conftest import galleries_for

WAIT_S = 60.0


@pytest.fixture
def settings(tmp_path: Path, store: PackStore) -> Settings:
    """Settings of an empty data directory with the packs of this machine."""
    (tmp_path / "packs").symlink_to(store.root)
    return Settings(data_dir=tmp_path)


@pytest.fixture
def models(settings: Settings) -> Iterator[Models]:
    models = load_configured_models(settings, sharing_of(settings, Metrics()))
    yield models
    models.close()


def test_the_service_switches_to_what_was_measured_without_losing_a_request(settings: Settings, models: Models) -> None:
    assert models.tuning is None
    switched: list[Models] = []
    with galleries_for(models, settings.galleries_dir) as galleries:
        app = create_app(models, galleries, settings)

        def switch(later: Models) -> None:
            switch_models(app, later)
            switched.append(later)

        with api_client(app) as client:
            assert client.get("/v1/info").json()["tuning"] is None
            tuning = SelfTuning(settings, models, switch, sharing_of(settings, Metrics()))
            end = time.monotonic() + WAIT_S
            while not switched and time.monotonic() < end:
                assert client.get("/readyz").status_code == 200
            info = client.get("/v1/info").json()
            assert info["tuning"]["thorough"] is False
            assert client.get("/readyz").status_code == 200
            tuning.close()
    stored = read_tuning(settings.tunings_dir, switched[0].tuning.key if switched[0].tuning else None)  # type: ignore[arg-type]
    assert stored == switched[0].tuning


def test_the_earlier_models_are_closed_when_no_request_uses_them(settings: Settings, models: Models) -> None:
    later = load_configured_models(settings, sharing_of(settings, Metrics()))
    with galleries_for(models, settings.galleries_dir) as galleries:
        app: FastAPI = create_app(models, galleries, settings)
        used = app.state.backend
        switch_models(app, later)
        gc.collect()
        used.models.require_alive()
        del used
        gc.collect()
        end = time.monotonic() + WAIT_S
        with pytest.raises(EngineStopped):
            while time.monotonic() < end:
                models.require_alive()
    later.close()


def test_a_tuned_machine_is_not_measured_again(settings: Settings, models: Models) -> None:
    first = tune_if_untuned(settings)
    assert first is not None
    assert first == tune_if_untuned(settings)
    assert not first.thorough
    assert first.key == tuning_key(models.recognizer, models.detector, settings.detection.options(), "cpu")
    assert f"the recognizer runs on {first.recognizer.choice.engine}" in describe_tuning(first)


@pytest.mark.parametrize(
    "chosen", [{"engine": "onnxruntime"}, {"precision": "fp32"}, {"threads": 1}, {"measure": False}]
)
def test_settings_that_choose_the_runtime_are_followed(chosen: dict[str, object], settings: Settings) -> None:
    wanted = settings.model_copy(update={"runtime": settings.runtime.model_copy(update=chosen)})
    assert tune_if_untuned(wanted) is None


def test_a_tuning_that_cannot_be_stored_is_used(settings: Settings, models: Models) -> None:
    settings.tunings_dir.write_text("not a directory")
    tuning = tune_if_untuned(settings)
    later = load_configured_models(settings, sharing_of(settings, Metrics()), tuning)
    later.close()
    assert later.tuning == tuning
    assert models.tuning is None


def test_a_measurement_ends_with_the_service(settings: Settings, models: Models) -> None:
    tuning = SelfTuning(
        settings, models, lambda _: pytest.fail("the service has ended"), sharing_of(settings, Metrics())
    )
    tuning._stopping.set()
    tuning.close()
    assert not settings.tunings_dir.exists() or not list(settings.tunings_dir.iterdir())
