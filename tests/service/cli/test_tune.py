"""`vultus tune` measures and writes a tuning, which the service uses and shows from its next start."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from models.serving.tuning import graphs, tuner
from service.app import create_app
from service.cli.main import app
from service.metrics.instruments import Metrics
from service.settings import Settings, load_settings
from service.startup import load_configured_models, sharing_of
from tests.client import api_client
from tests.conftest import galleries_for


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuner, "_TIMED_S", 0.01)
    monkeypatch.setattr(tuner, "_ROUNDS", 1)
    monkeypatch.setattr(graphs, "FACE_BATCHES", {"cpu": (1, 2)})
    monkeypatch.setattr(graphs, "PHOTO_BATCHES", {"cpu": (1,)})


@pytest.mark.usefixtures("quick")
def test_a_tuning_is_used_and_shown_by_the_service(data_dir: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tune"])
    assert done.exit_code == 0, done.output
    assert "yunet: images per second" in done.output
    assert "* " in done.output
    (written,) = (data_dir / "tunings").iterdir()
    assert str(written) in done.output.replace("\n", "")

    settings = load_settings()
    models = load_configured_models(settings, sharing_of(settings, Metrics()))
    try:
        assert models.tuning is not None
        with (
            galleries_for(models, tmp_path / "galleries") as galleries,
            api_client(create_app(models, galleries, Settings())) as client,
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
def test_an_untuned_model_states_the_reason() -> None:
    settings = load_settings()
    models = load_configured_models(settings, sharing_of(settings, Metrics()))
    models.close()
    assert models.tuning is None
    assert models.untuned_because == "this model was never tuned on this machine: run vultus tune"


@pytest.mark.usefixtures("data_dir")
def test_a_directory_without_photos_is_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert done.exit_code != 0
    assert "contains no photos" in str(done.exception)
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "@eaDir/1.jpg").write_bytes(b"\xff\xd8\xff")
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert "contains no photos (passed over: 1 system folder (@eaDir)" in str(done.exception)
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path / "missing")])
    assert "is not a directory" in str(done.exception)


@pytest.mark.usefixtures("data_dir")
def test_a_directory_without_readable_photos_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"junk")
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert "none of the photos" in str(done.exception)


@pytest.mark.usefixtures("data_dir", "quick")
def test_unreadable_photos_are_skipped(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"junk")
    (tmp_path / "c.jpg").symlink_to(tmp_path / "missing")
    (tmp_path / "d.jpg").mkdir()
    (tmp_path / "b.jpg").write_bytes((photos / "group.jpg").read_bytes())
    (tmp_path / "._b.jpg").write_bytes(b"\0\5\26\7")
    done = CliRunner().invoke(app, ["tune", "--photos", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "passed over: 1 system file (._b.jpg), " in done.output
    assert "1 link that leads nowhere (c.jpg)" in done.output
