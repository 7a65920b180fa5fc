"""Directories of InsightFace: roles by inputs and outputs, preprocessing, and the same embeddings as insightface."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from insightface.model_zoo.arcface_onnx import ArcFaceONNX
from onnx import TensorProto, helper, numpy_helper

from models.detection import HEADS
from models.errors import GraphUnsupported, ManifestInvalid, PackUnknown
from models.export.insightface_directory import INSIGHTFACE_LICENCE, Wanted, read_directory
from models.export.packs import add_pack
from models.packs import PackStore
from models.packs.manifest import manifest_text, read_manifest
from models.runtime import RuntimeOptions
from models.serving.load import load_models
from models.synthetic import synthetic_pictures
from models.types import no_progress
from tests.service.cli.command import vultus_here

DETECTOR, RECOGNIZER = "scrfd_2.5g_bnkps.onnx", "mobilefacenet_foamliu_dynamic.onnx"


def network(path: Path, side: int, outputs: int, scales_itself: bool = False) -> None:
    """Write a network with drawn weights from a picture to numbers: a pool and a product."""
    rng = np.random.default_rng(side)
    weights = numpy_helper.from_array(rng.normal(size=(3, outputs)).astype(np.float32), "weights")
    nodes, pixels = [], "data"
    constants = [weights]
    if scales_itself:  # as in the graphs that insightface converted from MXNet
        constants += [
            numpy_helper.from_array(np.array(127.5, np.float32), "mean"),
            numpy_helper.from_array(np.array(1 / 128, np.float32), "scale"),
        ]
        nodes += [
            helper.make_node("Sub", ["data", "mean"], ["centred"], name="_minusscalar0"),
            helper.make_node("Mul", ["centred", "scale"], ["scaled"], name="_mulscalar0"),
        ]
        pixels = "scaled"
    nodes += [
        helper.make_node("GlobalAveragePool", [pixels], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "weights"], ["fc1"], name="product"),
    ]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, outputs])],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


@pytest.fixture
def buffalo(shared: Path, tmp_path: Path) -> Path:
    """A directory like `buffalo_s`, with networks of landmarks and attributes."""
    directory = tmp_path / "buffalo_s"
    directory.mkdir()
    shutil.copy(shared / "models" / DETECTOR, directory / "det_500m.onnx")
    shutil.copy(shared / "models" / RECOGNIZER, directory / "w600k_mbf.onnx")
    for name, side, outputs in (("1k3d68", 192, 3309), ("2d106det", 192, 212), ("genderage", 96, 3)):
        network(directory / f"{name}.onnx", side, outputs)
    return directory


def test_roles_are_told_by_inputs_and_outputs(buffalo: Path) -> None:
    (buffalo / "det_500m.onnx").rename(buffalo / "a.onnx")
    (buffalo / "w600k_mbf.onnx").rename(buffalo / "b.onnx")
    manifest, passed_over = read_directory(buffalo)
    assert manifest.detector is not None
    assert manifest.recognizer is not None
    assert (manifest.name, manifest.detector.file, manifest.recognizer.file) == ("buffalo_s", "a.onnx", "b.onnx")
    assert passed_over == ("1k3d68.onnx", "2d106det.onnx", "genderage.onnx")
    assert manifest.recognizer.licence == manifest.detector.licence == INSIGHTFACE_LICENCE
    assert (manifest.detector.family, manifest.detector.mean, manifest.detector.std) == ("scrfd", 127.5, 128.0)
    own = buffalo.rename(buffalo.with_name("own"))
    assert read_directory(own).manifest.detector != manifest.detector
    assert read_directory(own, Wanted(licence="MIT")).manifest.detector.licence == "MIT"  # type: ignore[union-attr]


def test_a_manifest_survives_being_written(buffalo: Path, tmp_path: Path) -> None:
    manifest = read_directory(buffalo, Wanted(licence='"quoted" \\ ünïcode\n')).manifest
    (tmp_path / "a.toml").write_text(manifest_text(manifest))
    assert read_manifest(tmp_path / "a.toml") == manifest


@pytest.mark.parametrize("scales_itself", [False, True])
def test_embeddings_are_those_of_insightface(buffalo: Path, tmp_path: Path, scales_itself: bool) -> None:
    """Of a network that scales its input itself, and of one that is told how by insightface's loader."""
    if scales_itself:
        network(buffalo / "w600k_mbf.onnx", 112, 128, scales_itself=True)
    theirs = ArcFaceONNX(str(buffalo / "w600k_mbf.onnx"))
    assert (theirs.input_mean, theirs.input_std) == ((0.0, 1.0) if scales_itself else (127.5, 127.5))
    faces = synthetic_pictures(4, 112, 112)
    expected = np.concatenate([theirs.get_feat(np.ascontiguousarray(face[..., ::-1])) for face in faces])
    store = PackStore(tmp_path / "packs")
    manifest = read_directory(buffalo, Wanted("own")).manifest
    add_pack(store, manifest, no_progress)
    models = load_models(store, store.find("own"), RuntimeOptions(precision="fp32"))
    try:
        ours = models.pipeline.embedder.embed(faces)
    finally:
        models.close()
    assert models.pipeline.detector.family == HEADS["scrfd"].family
    norms = np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(ours.norm, norms, rtol=1e-3)
    assert (ours.embedding * expected).sum(axis=1) / norms == pytest.approx(1, abs=1e-4)


def test_what_is_wrong_with_a_directory_is_said(buffalo: Path, tmp_path: Path) -> None:
    with pytest.raises(GraphUnsupported, match="not a directory with ONNX files"):
        read_directory(tmp_path / "missing")
    with pytest.raises(GraphUnsupported, match=r"2d106det\.onnx is not a detector .* it has: det_500m\.onnx"):
        read_directory(buffalo, Wanted(detector="2d106det.onnx"))
    network(buffalo / "second.onnx", 112, 512)
    with pytest.raises(GraphUnsupported, match=r"several recognizers: second\.onnx, w600k_mbf\.onnx; .* --recognizer"):
        read_directory(buffalo)
    chosen = read_directory(buffalo, Wanted(recognizer="second.onnx")).manifest.recognizer
    assert chosen is not None
    assert chosen.file == "second.onnx"
    with pytest.raises(ManifestInvalid, match="built-in"):
        add_pack(
            PackStore(tmp_path / "packs"),
            read_directory(buffalo, Wanted("opencv-zoo", recognizer="second.onnx")).manifest,
            no_progress,
        )
    for name in ("det_500m.onnx", "second.onnx", "w600k_mbf.onnx"):
        (buffalo / name).unlink()
    with pytest.raises(GraphUnsupported, match=r"neither a detector, which is a SCRFD .* nor a recognizer, which is a"):
        read_directory(buffalo)
    (buffalo / "broken.onnx").write_bytes(b"\x08")
    with pytest.raises(GraphUnsupported, match=r"broken\.onnx"):
        read_directory(buffalo)


def test_an_added_pack_is_listed_and_served(
    buffalo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VULTUS_DATA_DIR", str(tmp_path / "data"))
    added = vultus_here(capsys, "packs", "add", buffalo)
    assert added.returncode == 0, added.stderr
    said = " ".join(added.stdout.split())
    for part in ("passed over: 1k3d68.onnx", "VULTUS_PACK=buffalo_s", "vultus calibrate", INSIGHTFACE_LICENCE):
        assert part in said
    assert "buffalo_s" in vultus_here(capsys, "packs", "list").stdout
    assert vultus_here(capsys, "packs", "verify", "buffalo_s").returncode == 0
    with pytest.raises(PackUnknown, match=r"opencv-zoo.*buffalo_s|buffalo_s.*opencv-zoo"):
        PackStore(tmp_path / "data" / "packs").find("nonsense")
