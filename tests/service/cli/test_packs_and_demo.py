"""`vultus packs` and `vultus demo`, run as commands."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from models.packs import PackStore, find_manifest
from service.cli import demo
from service.settings import load_settings
from tests.service.cli.command import vultus, vultus_here


def test_lists_packs_with_licence_and_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    output = vultus("packs", "list").stdout
    assert re.search(r"opencv-zoo.*MIT.*intact", output)


def test_lists_what_the_models_of_a_pack_were_trained_on(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = find_manifest("opencv-zoo")
    output = vultus_here(capsys, "packs", "list").stdout
    for entry in (manifest.detector, manifest.recognizer):
        assert entry is not None
        assert f"opencv-zoo, {entry.family}: training data: {entry.training_data}\n" in output
    assert "demo-photos, " not in output


def test_prints_a_path_for_scripts(store: PackStore) -> None:
    assert vultus("packs", "path", "opencv-zoo").stdout == f"{store.path(find_manifest('opencv-zoo'))}\n"


def test_fetches_from_a_directory_and_detects_damage(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path))
    missing = vultus("packs", "verify", "demo-photos")
    assert missing.returncode == 2
    assert "run: vultus packs fetch demo-photos" in missing.stderr
    assert vultus("packs", "fetch", "demo-photos", "--from", str(photos)).returncode == 0
    (tmp_path / "packs/demo-photos/group.jpg").write_bytes(b"")
    damaged = vultus("packs", "verify", "demo-photos")
    assert damaged.returncode == 2
    assert "group.jpg" in damaged.stderr
    assert vultus("packs", "fetch", "demo-photos", "--from", str(photos)).returncode == 0
    assert vultus("packs", "verify", "demo-photos").returncode == 0


def test_the_demo_shows_boxes_decisions_rates_and_times_and_writes_annotated_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(load_settings().packs_dir, tmp_path / "packs")
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    done = vultus("demo")
    assert done.returncode == 0, done.stderr
    assert "openvino" in done.stdout
    assert re.search(r"portrait, altered copy +│ single +│ 0\.\d+ +│ match +│ 0\.0001", done.stdout)
    assert re.search(r"portrait, group +│ largest +│ +-?0\.\d+ +│ no_match", done.stdout)
    assert "several_faces" in done.stdout
    assert "95 % interval" in done.stdout
    for name in ("astronaut", "group", "astronaut-on-its-side"):
        with Image.open(tmp_path / "demo" / f"{name}-annotated.png") as picture:
            assert picture.width > 100


def test_the_demo_compares_photos_of_the_user(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(load_settings().packs_dir, tmp_path / "packs")
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path))
    first, second = tmp_path / "first.png", tmp_path / "second.jpg"
    shutil.copy(photos / "astronaut.png", first)
    shutil.copy(photos / "group.jpg", second)
    done = vultus("demo", "--a", str(first), "--b", str(second))
    assert done.returncode == 0, done.stderr
    assert "first.png" in done.stdout
    single = vultus("demo", "--a", str(first))
    assert single.returncode == 2
    assert "both photos" in single.stderr


def test_the_demo_ends_if_the_service_hangs_without_a_log_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "_START_TIMEOUT_S", 0.2)
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
        pytest.raises(demo.DemoFailed, match="its log is empty"),
    ):
        demo._address(process)
    assert process.returncode == -signal.SIGKILL
