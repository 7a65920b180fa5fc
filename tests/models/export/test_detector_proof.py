"""The proof of a detector, with a small graph whose outputs are known."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from models.artefact.card import PROOF, DetectorCard, read_card
from models.errors import ArtefactUnfit
from models.export import packs
from models.export.detector_proof import Outputs, ProofPicture, proof_pictures, prove_detector
from models.graph import UnsupportedGraph
from models.packs import find_manifest

ABOUT = {"file": "small.onnx", "sha256": "0", "runtime": "numpy"}


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A graph whose scores, boxes and landmarks are the mean colour of the picture, divided by 255."""
    names = ("scores", "boxes", "landmarks")
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["numbers", "white"], ["shares"]),
        *(helper.make_node("ReduceMean", ["shares"], [name], axes=[1, 2], keepdims=0) for name in names),
    ]
    built = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3]) for name in names],
        [helper.make_tensor("white", TensorProto.FLOAT, [], [255.0])],
    )
    path = tmp_path / "detector.onnx"
    onnx.save(helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def mean_color(picture: NDArray[np.uint8]) -> Outputs:
    mean = (picture / np.float32(255)).mean(axis=(1, 2), dtype=np.float64).astype(np.float32)
    return {"scores": mean, "boxes": mean, "landmarks": mean}


def test_a_detector_is_proven_on_pictures_of_several_sizes_on_every_engine(graph: Path) -> None:
    proof = prove_detector(graph, ABOUT, mean_color, proof_pictures(None))
    assert proof.failures == []
    record = proof.record()
    assert record["passed"]
    assert len(record["pictures"]) == 4
    assert len({name.split(", ")[-1] for name in record["pictures"]}) == 3
    rows = {(row["precision"], row["engine"]): row for row in record["measured"]}
    assert set(rows) >= {("fp32", "onnxruntime"), ("fp32", "openvino")}
    assert all(row["worst"]["scores"] < 1e-3 for (precision, _), row in rows.items() if precision == "fp32")
    assert json.loads(json.dumps(record)) == record


def test_a_published_graph_of_one_size_is_compared_in_this_size(graph: Path) -> None:
    def fixed(picture: NDArray[np.uint8]) -> Outputs:
        if picture.shape[1:3] != (640, 640):
            raise UnsupportedGraph("the shapes do not fit")
        return mean_color(picture)

    pictures = proof_pictures(None)
    proof = prove_detector(graph, ABOUT, fixed, pictures)
    assert proof.failures == []
    assert len(proof.pictures) == 2
    with pytest.raises(UnsupportedGraph):
        prove_detector(graph, ABOUT, fixed, pictures[2:])


@pytest.mark.parametrize("output", ["scores", "boxes", "landmarks"])
def test_a_difference_on_one_of_several_pictures_fails_the_proof(graph: Path, output: str) -> None:
    pictures = proof_pictures(None)

    def other(picture: NDArray[np.uint8]) -> Outputs:
        outputs = mean_color(picture)
        if picture.shape == pictures[-1].pixels.shape:
            outputs[output] = outputs[output] + np.array([0, 0, 5e-3], np.float32)
        return outputs

    proof = prove_detector(graph, ABOUT, other, pictures)
    assert not proof.record()["passed"]
    assert len(proof.failures) == len([row for row in proof.rows if row.precision == "fp32"])
    assert all(f": {output} differ by 0.00" in why and why.endswith(pictures[-1].name) for why in proof.failures)


def test_an_output_that_is_no_number_fails_the_proof(graph: Path) -> None:
    picture = ProofPicture("black", np.zeros((1, 32, 32, 3), np.uint8))

    def nothing(pixels: NDArray[np.uint8]) -> Outputs:
        return {name: values * np.float32(np.nan) for name, values in mean_color(pixels).items()}

    assert not prove_detector(graph, ABOUT, nothing, [picture]).record()["passed"]


def test_photos_are_scaled_to_multiples_of_32_and_unreadable_ones_left_out(tmp_path: Path) -> None:
    Image.new("RGB", (1000, 700), "red").save(tmp_path / "a.png")
    Image.new("RGB", (50, 40), "red").save(tmp_path / "b.jpg")
    (tmp_path / "c.jpg").write_bytes(b"no picture")
    (tmp_path / "d.txt").write_text("text")
    found = proof_pictures(tmp_path)[len(proof_pictures(None)) :]
    assert [picture.name for picture in found] == ["a.png, 384 x 256", "b.jpg, 64 x 32"]
    assert [picture.pixels.shape for picture in found] == [(1, 256, 384, 3), (1, 32, 64, 3)]


def test_a_built_detector_has_its_proof_on_its_card(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversion is replaced by the small graph, the published one by its formula."""
    entry = find_manifest("opencv-zoo").detector
    assert entry is not None
    model = onnx.load(graph)
    monkeypatch.setattr(packs, "simplify", lambda found: found)
    monkeypatch.setattr(packs, "detector_graph", lambda *_: model)
    monkeypatch.setattr(packs, "save_checked", lambda found, path: onnx.save(found, path))
    monkeypatch.setattr(packs, "_network_input", lambda picture, _: picture)
    monkeypatch.setattr(packs._PublishedGraph, "run", lambda _, picture: mean_color(picture))
    monkeypatch.setattr(packs, "_join", lambda outputs, _: outputs)
    packs.build_detector(entry, graph, tmp_path / "built")
    card = read_card(tmp_path / "built", DetectorCard)
    assert set(card.files) == {"detector.onnx", PROOF}
    assert json.loads((tmp_path / "built" / PROOF).read_text())["passed"]
    monkeypatch.setattr(packs._PublishedGraph, "run", lambda _, picture: mean_color(255 - picture))
    with pytest.raises(ArtefactUnfit, match="the converted detector differs from"):
        packs.build_detector(entry, graph, tmp_path / "other")
    assert not json.loads((tmp_path / "other" / PROOF).read_text())["passed"]
    assert not (tmp_path / "other" / "model.json").exists()
