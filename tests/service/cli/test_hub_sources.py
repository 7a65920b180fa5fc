"""`hf:OWNER/REPO` in `vultus packs add`, `export` and `import`, with the real library and a local Hub."""

import importlib.util
import json
import shutil
import tomllib
from pathlib import Path

import pytest

from models.artefact.card import Card, read_card
from models.export.steps import SourceSpec, describe_checkpoint
from tests.hub_server import TOKEN, FakeHub, sha256
from tests.service.cli.command import vultus, vultus_here

ADAFACE = "minchul/cvlface_adaface_ir18_drawn"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("VULTUS_RUNTIME__MEASURE", "false")
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_a_checkpoint_of_cvlface_is_exported_with_its_commit_on_the_card(
    hub: FakeHub, home: Path, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a process of its own, which reads HF_ENDPOINT as users set it."""
    specification = importlib.util.spec_from_file_location("recipe", shared / "reference/recipe.py")
    assert specification is not None
    assert specification.loader is not None
    recipe = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(recipe)
    recipe.build(shared / "reference/cvlface_ir18.json", home / "made", "hf")
    files = {path.name: path.read_bytes() for path in (home / "made").iterdir()}
    commit = hub.publish(ADAFACE, {**files, "wrapper.py": b"raise SystemExit", "files.txt": b"wrapper.py"}, "v1")
    hub.repositories[ADAFACE].needs = "RepoNotFound"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = vultus("export", f"hf:{ADAFACE}@v1", "--out", home / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["reference"]["commit"] == commit
    assert f"hf:{ADAFACE}: model.safetensors of commit {commit}" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert hub.downloads() == ["config.json", "model.safetensors"]
    assert not any("torch/" in sent["user-agent"] for sent in hub.headers)
    card = read_card(home / "out", Card)
    assert card.source == {
        "file": "model.safetensors",
        "repository": f"hf:{ADAFACE}",
        "commit": commit,
        "sha256": sha256(files["model.safetensors"]),
        "form": card.source["form"],
    }
    assert card.weights == describe_checkpoint(SourceSpec(home / "made")).weights
    assert (card.preprocessing["color"], card.color_from) == ("rgb", "config.json beside the checkpoint")
    assert not any(TOKEN.encode() in path.read_bytes() for path in (home / "out").iterdir())


def test_a_graph_is_imported_from_a_repository(
    hub: FakeHub, home: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = (shared / "models/mobilefacenet_foamliu_dynamic.onnx").read_bytes()
    commit = hub.publish("o/mbf", {"onnx/mbf.onnx": content, "model.py": b""})
    options = ("--out", home / "out", "--color", "rgb", "--mean", "127.5", "--std", "127.5")
    done = vultus_here(capsys, "import", "hf:o/mbf", *options)
    assert done.returncode == 0, done.stderr
    source = read_card(home / "out", Card).source
    assert (source["file"], source["commit"], source["sha256"]) == ("onnx/mbf.onnx", commit, sha256(content))
    asked = len(hub.requests)
    refused = vultus_here(capsys, "import", "hf:o/mbf", *options)
    assert "exists; give --force" in refused.stderr
    assert len(hub.requests) == asked, "the directory is checked before a download"


def test_a_pack_is_added_from_a_repository_and_fetched_again_at_its_commit(
    hub: FakeHub, home: Path, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = (shared / "models/scrfd_500m_bnkps.onnx").read_bytes()
    recognizer = (shared / "models/mobilefacenet_foamliu_dynamic.onnx").read_bytes()
    others = {f"buffalo_s/{name}.onnx": b"not needed" for name in ("1k3d68", "2d106det", "genderage")}
    files = {"buffalo_s/det_500m.onnx": detector, "buffalo_s/w600k_mbf.onnx": recognizer, **others}
    commit = hub.publish("o/insightface", {**files, "demo.py": b""})
    added = vultus_here(capsys, "packs", "add", "hf:o/insightface/buffalo_s")
    assert added.returncode == 0, added.stderr
    assert "non-commercial research only" in added.stdout
    assert "passed over: 1k3d68.onnx, 2d106det.onnx, genderage.onnx" in added.stdout
    assert hub.downloads() == ["buffalo_s/det_500m.onnx", "buffalo_s/w600k_mbf.onnx"]
    manifest = tomllib.loads((home / "data/packs/buffalo_s.toml").read_text())
    assert manifest["files"][0] == {
        "name": "det_500m.onnx",
        "sha256": sha256(detector),
        "sources": [{"hub": "o/insightface", "commit": commit, "path": "buffalo_s/det_500m.onnx"}],
    }
    hub.publish("o/insightface", {"buffalo_s/det_500m.onnx": b"newer"})
    for cached in ("data/packs/buffalo_s", "hub-cache"):
        shutil.rmtree(home / cached)
    fetched = vultus_here(capsys, "packs", "fetch", "buffalo_s")
    assert fetched.returncode == 0, fetched.stderr
    assert vultus_here(capsys, "packs", "verify", "buffalo_s").returncode == 0
    shutil.rmtree(home / "data/packs/buffalo_s")
    shutil.rmtree(home / "hub-cache")
    hub.replaced = {"buffalo_s/det_500m.onnx": b"x" + detector[1:]}
    refused = vultus_here(capsys, "packs", "fetch", "buffalo_s")
    assert refused.returncode == 2
    assert f"hf:o/insightface@{commit[:12]}/buffalo_s/det_500m.onnx: its SHA-256 differs" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("export", "hf:nobody"), "does not name an owner and a repository"),
        (("import", "hf:o/none"), "has no repository o/none"),
        (("packs", "add", "hf:o/r@v9"), "o/r has no revision v9"),
        (("export", "hf:o/r"), "several files that may be a checkpoint: a.pth, b.pth; give one after a slash"),
        (("packs", "add", "hf:o/r"), "no ONNX graph of a detector or a recognizer"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    hub: FakeHub, home: Path, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.publish("o/r", {"a.pth": b"", "b.pth": b""})
    out = () if arguments[0] == "packs" else ("--out", home / "out")
    done = vultus_here(capsys, *arguments, *out)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2  # a line of progress, and the sentence
    assert hub.downloads() == []


def test_without_the_library_the_extra_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.extras._is_installed", lambda package: package != "huggingface_hub")
    done = vultus_here(capsys, "export", "hf:o/r", "--out", home / "out")
    assert done.returncode == 2
    assert "run pip install 'vultus[hub]'" in done.stderr
