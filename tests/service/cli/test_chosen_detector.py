"""`VULTUS_DETECTOR` in the commands: what is served, measured and said."""

import logging
import shutil
from pathlib import Path

import pytest

from models.errors import PackUnknown
from service.app import create_app
from service.cli.serve import _announce
from service.doctor.models import check_model
from service.settings import load_settings
from service.startup import load_configured_models
from tests.client import api_client
from tests.conftest import galleries_for
from tests.service.cli.command import vultus, vultus_here


@pytest.fixture
def places(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with the default pack, and directories with one file of InsightFace's forms."""
    packs = load_settings().packs_dir
    shutil.copytree(packs / "opencv-zoo", tmp_path / "data/packs/opencv-zoo")
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path / "data"))
    for name, file in (("scrfd", "scrfd_500m_bnkps.onnx"), ("foamliu", "mobilefacenet_foamliu_dynamic.onnx")):
        (tmp_path / name).mkdir()
        shutil.copy(shared / "models" / file, tmp_path / name)
    return tmp_path


def test_an_added_detector_is_served_beside_the_recognizer_of_the_default_pack(
    places: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    added = vultus_here(capsys, "packs", "add", places / "scrfd")
    assert added.returncode == 0, added.stderr
    assert "recognizer: none" in added.stdout
    assert "Serve its detector with VULTUS_DETECTOR=scrfd" in added.stdout
    monkeypatch.setenv("VULTUS_DETECTOR", "scrfd")
    models = load_configured_models()
    with caplog.at_level(logging.INFO):
        _announce(models)
    assert "recognizer: sface" in caplog.text.lower()
    assert "of the pack opencv-zoo" in caplog.text
    assert "detector: scrfd of the pack scrfd: " in caplog.text
    with (
        galleries_for(models, places / "galleries") as galleries,
        api_client(create_app(models, galleries, load_settings())) as client,
    ):
        info = client.get("/v1/info").json()
    models.close()
    assert (info["recognizer"]["pack"], info["detector"]["pack"]) == ("opencv-zoo", "scrfd")
    assert info["operating_points"] == []
    assert {finding.code for finding in check_model(load_settings())} <= {"untuned", "calibration_of_others"}


def test_a_recognizer_alone_names_the_detector_to_choose(
    places: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    added = vultus_here(capsys, "packs", "add", places / "foamliu")
    assert added.returncode == 0, added.stderr
    assert "detector: none" in added.stdout
    assert "Serve it with VULTUS_PACK=foamliu VULTUS_DETECTOR=opencv-zoo" in added.stdout
    monkeypatch.setenv("VULTUS_PACK", "foamliu")
    refused = vultus("serve")  # in a process of its own, whose logs it configures
    assert refused.returncode == 2
    assert "the pack foamliu has no detector, only a recognizer" in refused.stderr
    (finding,) = check_model(load_settings())
    assert finding.remedy == "correct VULTUS_PACK, VULTUS_MODEL and VULTUS_DETECTOR"
    assert [row for row in vultus_here(capsys, "packs", "list").stdout.splitlines() if "foamliu" in row]


def test_an_unknown_or_missing_pack_of_the_detector_is_said(
    places: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VULTUS_DETECTOR", "nonsense")
    with pytest.raises(PackUnknown, match=r"unknown pack .nonsense.; available packs: .*opencv-zoo"):
        load_configured_models()
    assert vultus_here(capsys, "packs", "add", places / "scrfd").returncode == 0
    shutil.rmtree(places / "data/packs/scrfd")
    monkeypatch.setenv("VULTUS_DETECTOR", "scrfd")
    assert "vultus packs fetch scrfd" in vultus("serve").stderr
    (finding,) = check_model(load_settings())
    assert finding.remedy == "vultus packs fetch opencv-zoo; vultus packs fetch scrfd"
    assert vultus_here(capsys, "packs", "fetch", "scrfd").returncode == 0
    shutil.rmtree(places / "data/packs/opencv-zoo")
    shutil.rmtree(places / "data/packs/scrfd")
    fetched = vultus_here(capsys, "packs", "fetch", "scrfd")
    assert fetched.returncode == 0
    assert "not measured on this machine yet: the pack opencv-zoo is missing" in fetched.stdout
