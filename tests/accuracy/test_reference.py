"""Comparison of the exported graphs with the reference outputs of the official projects."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.alignment import TEMPLATES
from models.backbones import Plan, recognise
from models.checkpoint import Checkpoint, read_checkpoint
from models.export.network import graph_without_weights
from models.export.steps import SourceSpec, describe_checkpoint, write_graph
from models.graph import Preprocessing
from models.imaging import Photo
from models.quality import adaface_indicator
from models.runtime import RuntimeOptions, open_session

TOLERANCE = 1e-4  # relative L2 distance of each embedding; the smallest known mistake causes 5e-4

FAMILIES = ["arcface_r18", "arcface_mbf", "arcface_vit_t", "adaface_ir_18", "elasticface_iresnet18"]
SMALL = [*FAMILIES, "cvlface_ir18", "elasticface_iresnet50_se"]
LARGE = [
    *("arcface_r50", "arcface_r100", "elasticface_iresnet50", "elasticface_iresnet100"),
    *("adaface_ir_50", "adaface_ir_101", "cvlface_ir50", "cvlface_vit_small"),
]
FUSED = ["arcface_mbf", "adaface_ir_18"]
WRAPPED = ["arcface_r18", "adaface_ir_18"]


def each_of(names: list[str], quick: list[str]) -> list[Any]:
    """Return the names as parameters; the networks that are not in `quick` are marked `full`."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.full) for name in names]


WRAPPERS: list[dict[str, Any]] = [
    {"kind": "plain"},
    {"kind": "plain", "legacy": True, "location": "cuda:0"},
    {"kind": "ddp"},
    {"kind": "lightning"},
    {"kind": "lightning", "legacy": True},
    {"kind": "lightning-worst", "location": "cuda:0"},
    {"kind": "lightning-worst", "legacy": True, "location": "cuda:0"},
    {"kind": "train-state"},
    {"kind": "net-state", "legacy": True},
    {"kind": "safetensors"},
    {"kind": "plain", "metadata": False},
]


@pytest.fixture(scope="session")
def recipe(shared: Path) -> ModuleType:
    return load_recipe(shared)


def load_recipe(shared: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("recipe", shared / "reference/recipe.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Path]:
    """A directory that is emptied after the test, because a checkpoint has up to 400 MB."""
    yield tmp_path
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.unlink()


def golden(shared: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((shared / f"reference/{name}.json").read_text())
    return content


def run_exported(path: Path, checkpoint: Checkpoint, preprocessing: Preprocessing, faces: NDArray[np.uint8]) -> Any:
    plan = recognise({key: array.shape for key, array in checkpoint.weights.items()})
    structure, graph = path.with_name("skeleton.onnx"), path.with_name("embedder.onnx")
    structure.write_bytes(_skeleton_of(plan))
    write_graph(SourceSpec(path), structure, preprocessing, graph, "vultus", {})
    onnx.checker.check_model(graph, full_check=True)
    session = open_session(graph, ("embedding", "norm"), (faces.shape[1:3],), RuntimeOptions(precision="fp32"))
    return session.run(faces)


_SKELETONS: dict[tuple[str, str], bytes] = {}


def _skeleton_of(plan: Plan) -> bytes:
    key = (plan.family, plan.architecture)
    if key not in _SKELETONS:
        _SKELETONS[key] = graph_without_weights(plan).SerializeToString()
    return _SKELETONS[key]


def relative(found: NDArray[Any], expected: Any) -> float:
    expected = np.array(expected)
    return float((np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())


def build(name: str, shared: Path, recipe: ModuleType, scratch: Path) -> tuple[dict[str, Any], Checkpoint]:
    specification = golden(shared, name)
    path = scratch / "checkpoint"
    if specification["checkpoint"]["wrapper"] not in ("cvlface", "hf"):
        path = path.with_suffix(".pth")
    recipe.build(shared / f"reference/{name}.json", path)
    return specification, read_checkpoint(path)


@pytest.mark.parametrize("name", each_of([*SMALL, *LARGE], quick=FAMILIES))
def test_the_graph_returns_the_official_embedding_norm_and_quality(
    name: str, shared: Path, recipe: ModuleType, scratch: Path
) -> None:
    specification, checkpoint = build(name, shared, recipe, scratch)
    described = describe_checkpoint(SourceSpec(checkpoint.path))
    preprocessing, outputs = described.preprocessing, specification["outputs"]
    assert preprocessing.color == specification["preprocessing"]["channel_order"].lower()
    embedding, norm = run_exported(checkpoint.path, checkpoint, preprocessing, recipe.images())
    assert relative(embedding * norm[:, None], outputs["embedding"]) <= TOLERANCE
    np.testing.assert_allclose(norm, np.ravel(outputs["norm"]), rtol=TOLERANCE)
    if "quality" in specification:
        statistics = described.norm_statistics()
        assert statistics is not None
        np.testing.assert_allclose(adaface_indicator(norm, statistics), specification["quality"]["z"], atol=2e-4)


@pytest.mark.parametrize("name", each_of(SMALL, quick=FUSED))  # fusion does not depend on the depth of the network
def test_mirror_fusion_in_the_graph_matches_the_official_fusion(
    name: str, shared: Path, recipe: ModuleType, scratch: Path
) -> None:
    specification, checkpoint = build(name, shared, recipe, scratch)
    preprocessing = describe_checkpoint(SourceSpec(checkpoint.path, mirror=True)).preprocessing
    fused, fused_norm = run_exported(checkpoint.path, checkpoint, preprocessing, recipe.images())
    assert relative(fused, specification["outputs"]["fused_normalized"]) <= TOLERANCE
    np.testing.assert_allclose(fused_norm, np.ravel(specification["outputs"]["fused_norm"]), rtol=TOLERANCE)


@pytest.mark.parametrize("wrapper", WRAPPERS, ids=lambda wrapper: "-".join(str(value) for value in wrapper.values()))
@pytest.mark.parametrize("name", each_of(WRAPPED, quick=["arcface_r18"]))
def test_every_wrapper_holds_the_same_weights(
    name: str, wrapper: dict[str, Any], shared: Path, recipe: ModuleType, scratch: Path
) -> None:
    path = scratch / ("wrapped.safetensors" if wrapper["kind"] == "safetensors" else "wrapped.ckpt")
    specification = recipe.build(shared / f"reference/{name}.json", path, **wrapper)
    checkpoint = read_checkpoint(path)
    expected = recipe.arrays(specification)
    assert checkpoint.weights.keys() == expected.keys()
    assert all(np.array_equal(checkpoint.weights[key], array) for key, array in expected.items())


@pytest.mark.parametrize("wrapper", ["cvlface", "hf"])
@pytest.mark.parametrize("half", [False, True])
def test_cvlface_states_its_colour_order_beside_the_file(
    wrapper: str, half: bool, shared: Path, recipe: ModuleType, scratch: Path
) -> None:
    recipe.build(shared / "reference/cvlface_ir18.json", scratch / "wrapped", wrapper, half=half)
    described = describe_checkpoint(SourceSpec(scratch / "wrapped"))
    assert (described.architecture, described.preprocessing.color) == ("ir-18", "rgb")
    assert "beside" in described.color_from


def test_half_precision_weights_stay_close(shared: Path, recipe: ModuleType, scratch: Path) -> None:
    specification = golden(shared, "arcface_mbf")
    recipe.build(shared / "reference/arcface_mbf.json", scratch / "half.pth", "ddp", legacy=True, half=True)
    checkpoint = read_checkpoint(scratch / "half.pth")
    embedding, norm = run_exported(checkpoint.path, checkpoint, Preprocessing("rgb", 127.5, 127.5), recipe.images())
    assert relative(embedding * norm[:, None], specification["outputs"]["embedding"]) <= 0.01


def real_checkpoint_error(shared: Path, scratch: Path) -> float:
    """Export the real checkpoint and return the largest relative L2 distance from the official embeddings."""
    specification = golden(shared, "mobilefacenet068")
    checkpoint = read_checkpoint(shared / "models/mobilefacenet_arcface_casia_068.ckpt")
    described = describe_checkpoint(SourceSpec(checkpoint.path))
    template = TEMPLATES[described.template]
    assert (template.height, template.width) == tuple(specification["preprocessing"]["size_hw"])
    files = [shared / "reference" / crop["file"] for crop in specification["crops"]]
    faces = np.stack([Photo(file.read_bytes()).raster().pixels for file in files])
    linked = scratch / checkpoint.path.name
    linked.symlink_to(checkpoint.path)
    embedding, norm = run_exported(linked, checkpoint, described.preprocessing, faces)
    return relative(embedding * norm[:, None], [crop["embedding"] for crop in specification["crops"]])


def test_the_real_checkpoint_returns_the_official_embeddings_of_real_faces(shared: Path, tmp_path: Path) -> None:
    assert real_checkpoint_error(shared, tmp_path) <= TOLERANCE
