"""Checkpoints of CVLFace's form and graphs, fetched from a local Hub."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.errors import HubNotFound
from models.export.hub.checkpoints import fetched_checkpoint
from models.export.hub.graphs import fetched_graph
from models.export.onnx_file import read_onnx
from models.export.steps import SourceSpec, describe_checkpoint
from models.hub import Hub, parse_reference
from tests.hub_server import FakeHub, Files

REFERENCE = parse_reference("hf:minchul/cvlface_adaface_ir18_drawn")


@pytest.fixture(scope="module")
def recipe(shared: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("recipe", shared / "reference/recipe.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def files_below(directory: Path, prefix: str = "") -> Files:
    return {prefix + path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def cvlface(shared: Path, recipe: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a repository as CVLFace publishes them, with drawn weights in both places."""
    directory = tmp_path_factory.mktemp("cvlface")
    golden = shared / "reference/cvlface_ir18.json"
    recipe.build(golden, directory / "root", "hf")
    recipe.build(golden, directory / "inner", "cvlface")
    code = dict.fromkeys(("wrapper.py", "models/__init__.py"), b"raise SystemExit('code was run')")
    return {**files_below(directory / "root"), **files_below(directory / "inner", "pretrained_model/"), **code}


@pytest.mark.parametrize(
    ("folder", "needed", "color_from"),
    [
        ("", ["config.json", "model.safetensors"], "config.json beside the checkpoint"),
        (
            "/pretrained_model",
            ["pretrained_model/model.pt", "pretrained_model/model.yaml"],
            "model.yaml beside the checkpoint",
        ),
    ],
)
def test_a_repository_of_cvlface_is_described_as_its_files_are(
    hub: FakeHub, cvlface: Files, folder: str, needed: list[str], color_from: str
) -> None:
    commit = hub.publish(REFERENCE.repository, cvlface)
    fetched = fetched_checkpoint(Hub(), parse_reference(f"{REFERENCE}{folder}"))
    assert hub.downloads() == needed
    described = describe_checkpoint(SourceSpec(fetched.path))
    assert (described.family, described.architecture) == ("adaface-ir", "ir-18")
    assert (described.preprocessing.color, described.color_from) == ("rgb", color_from)
    assert fetched.origin == {
        "file": next(path for path in needed if "model." in path and not path.endswith("yaml")),
        "repository": f"hf:{REFERENCE.repository}",
        "commit": commit,
    }


def graph_with_weights_beside(directory: Path) -> Files:
    weights = numpy_helper.from_array(np.ones((3, 64), np.float32), "weights")
    nodes = [
        helper.make_node("GlobalAveragePool", ["data"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["fc1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "drawn",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, 112, 112])],
        [helper.make_tensor_value_info("fc1", TensorProto.FLOAT, [1, 64])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, directory / "net.onnx", save_as_external_data=True, location="net.onnx.data", size_threshold=0)
    return files_below(directory)


def test_a_graph_is_fetched_with_the_files_of_its_weights(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    files = graph_with_weights_beside(tmp_path / "made")
    hub.publish("o/r", {**{f"onnx/{name}": content for name, content in files.items()}, "README.md": b""})
    with fetched_graph(Hub(), parse_reference("hf:o/r")) as fetched:
        (weights,) = read_onnx(fetched.path).graph.initializer
        assert numpy_helper.to_array(weights).sum() == 192
        assert fetched.origin["file"] == "onnx/net.onnx"
        assert hub.downloads() == ["onnx/net.onnx", "onnx/net.onnx.data"]
    hub.publish("o/r", {"net.onnx": files["net.onnx"]})
    missing = pytest.raises(HubNotFound, match=r"has no file net\.onnx\.data, in which net\.onnx keeps its weights")
    with missing, fetched_graph(Hub(), parse_reference("hf:o/r")):
        pass
