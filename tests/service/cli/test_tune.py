"""`vultus tune` measures, keeps, and the service that starts next uses and shows it."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from models.serving.tuning import graphs, tuner
from service.app import create_app
from service.cli.main import app
from service.settings import Settings, load_settings
from service.startup import load_configured_models, sharing_of
from tests.conftest import galleries_for


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "_TIMED_S", 0.01)
    monkeypatch.setattr(tuner, "_ROUNDS", 1)
    monkeypatch.setattr(graphs, "FACE_BATCHES", {"cpu": (1, 2)})
    monkeypatch.setattr(graphs, "PHOTO_BATCHES", {"cpu": (1,)})


@pytest.mark.usefixtures("quick")
def test_what_was_tuned_is_served_and_shown(data_dir: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tune"])
    assert done.exit_code == 0, done.output
    assert "yunet: images per second" in done.output
    assert "* " in done.output
    (written,) = (data_dir / "tunings").iterdir()
    assert str(written) in done.output.replace("\n", "")

    settings = load_settings()
    models = load_configured_models(settings, sharing_of(settings))
    try:
        assert models.tuning is not None
        with (
            galleries_for(models, tmp_path / "galleries") as galleries,
            TestClient(create_app(models, galleries, Settings())) as client,
        ):
            shown = client.get("/v1/info").json()
            assert client.get("/readyz").status_code == 200
    finally:
        models.close()
    assert shown["untuned_because"] is None
    for name in ("recognizer", "detector"):
        tuned, runs = shown["tuning"][name], shown[name]["session"]
        assert {runs[key] for key in ("engine", "precision")} == {tuned[key] for key in ("engine", "precision")}
        assert runs["streams"] == tuned["streams"]
        assert tuned["rate"] > 0
    assert shown["tuning"]["machine"]["cpu"]


@pytest.mark.usefixtures("data_dir")
def test_an_untuned_service_says_so() -> None:
    settings = load_settings()
    models = load_configured_models(settings, sharing_of(settings))
    models.close()
    assert models.tuning is None
    assert models.untuned_because == "this model was never tuned on this machine: run vultus tune"


@pytest.mark.usefixtures("data_dir")
def test_a_directory_without_photos_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert done.exit_code != 0
    assert "contains no photos" in str(done.exception)
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path / "absent")])
    assert "is not a directory" in str(done.exception)


@pytest.mark.usefixtures("data_dir")
def test_photos_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"junk")
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert "none of the photos" in str(done.exception)


@pytest.mark.usefixtures("data_dir", "quick")
def test_photos_that_cannot_be_read_are_passed_over(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"junk")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "absent")
    (tmp_path / "d.jpg").mkdir()
    (tmp_path / "b.jpg").write_bytes((photos / "group.jpg").read_bytes())
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert done.exit_code == 0, done.output
