"""The parity proof detects the common mistakes of conversions."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from models.artefact.parity import compare
from models.artefact.proof import LabelledScore, Proof
from models.backbones import Plan
from models.export import network
from models.export.isolation import run_here
from models.export.labelled import Labelled
from models.export.network import SourceNetwork
from models.export.proof import Reference, prove
from models.graph import Preprocessing, fold_batch_norms, recognizer_graph, save_checked, simplify_in_place
from models.synthetic import synthetic_pictures
from models.types import Embeddings, no_progress
from tests.checkpoints import small_adaface, small_iresnet, weights_for

RIGHT = Preprocessing("bgr", 127.5, 127.5)

Damage = Callable[[onnx.ModelProto], None]


def proof_of(scratch: Path, plan: Plan, seen: Preprocessing, damage: Damage = lambda _: None) -> Proof:
    weights, faces = weights_for(plan), synthetic_pictures(8, 112, 112)
    np.save(scratch / "faces.npy", faces)
    wanted = SourceNetwork(plan, weights).embed(faces, RIGHT)
    model = network.graph_without_weights(plan)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(weights[tensor.name], tensor.name))
    damage(model)
    simplify_in_place(model)
    fold_batch_norms(model)
    recognizer_graph(model, seen)
    save_checked(model, scratch / "embedder.onnx")
    reference = Reference({"runtime": "torch"}, scratch / "faces.npy", "8 synthetic", len(faces), wanted)
    return prove({"fp32": scratch / "embedder.onnx"}, reference, no_progress, run_here)


@pytest.mark.parametrize("plan", [small_iresnet(), small_adaface()], ids=lambda plan: plan.family)
def test_a_right_conversion_passes_on_every_engine(plan: Plan, tmp_path: Path) -> None:
    proof = proof_of(tmp_path, plan, RIGHT)
    assert proof.passed
    assert {"onnxruntime", "openvino"} <= {row.engine for row in proof.rows if row.asked}


def wider_epsilon(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "BatchNormalization" and attribute.name == "epsilon":
                attribute.f = 2e-5


def no_bias(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith(("fc.bias", "output_layer.3.bias")):
            tensor.CopyFrom(numpy_helper.from_array(np.zeros(tensor.dims, np.float32), tensor.name))


@pytest.mark.parametrize("plan", [small_iresnet(), small_adaface()], ids=lambda plan: plan.family)
@pytest.mark.parametrize(
    ("seen", "damage"),
    [
        (replace(RIGHT, color="rgb"), None),
        (replace(RIGHT, std=128.0), None),
        (replace(RIGHT, mean=127.0), None),
        (replace(RIGHT, mirror=True), None),
        (RIGHT, wider_epsilon),
        (RIGHT, no_bias),
    ],
    ids=["colours swapped", "divided by 128", "another mean", "mirrored", "epsilon 2e-5", "bias dropped"],
)
def test_a_deliberate_mistake_is_caught(plan: Plan, seen: Preprocessing, damage: Damage | None, tmp_path: Path) -> None:
    proof = proof_of(tmp_path, plan, seen, damage or (lambda _: None))
    assert not proof.passed
    assert all("relative L2" in "; ".join(row.why) for row in proof.rows if row.asked)


def embeddings(raw: NDArray[np.float32]) -> Embeddings:
    norm = np.linalg.norm(raw, axis=1)
    return Embeddings(raw / norm[:, None], norm)


def test_computes_every_measure() -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(20, 64)).astype(np.float32)
    raw = reference * np.float32(1.01)
    raw[3] *= -1
    parity = compare(reference, embeddings(raw), threshold=0.0)
    assert parity.worst_relative_l2 == pytest.approx(2.01, rel=1e-5)
    assert parity.mean_relative_l2 == pytest.approx((19 * 0.01 + 2.01) / 20, rel=1e-4)
    assert parity.worst_cosine == pytest.approx(-1)
    assert parity.worst_norm_drift == pytest.approx(0.01, rel=1e-4)
    assert (parity.flipped, parity.pairs) == (19, 190)


@pytest.mark.parametrize(
    ("precision", "angle", "passes"),
    [
        ("fp32", 1e-5, True),
        ("fp32", 1e-3, False),
        ("fp16", 1e-3, True),
        ("fp16", 0.02, False),
        ("bf16", 0.03, True),
        ("bf16", 0.08, False),
        ("int8", 0.15, True),
        ("int8", 0.25, False),
        ("int8-cpu", 0.25, False),
    ],
)
def test_each_precision_has_its_own_limit(precision: str, angle: float, passes: bool) -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=(20, 256)).astype(np.float32)
    noise = rng.normal(size=reference.shape)
    noise -= (noise * reference).sum(axis=1, keepdims=True) / (reference**2).sum(axis=1, keepdims=True) * reference
    noise *= np.linalg.norm(reference, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    raw = (reference * np.cos(angle) + noise * np.sin(angle)).astype(np.float32)
    assert (compare(reference, embeddings(raw)).failures(precision) == []) is passes  # type: ignore[arg-type]


def test_a_collapsed_model_fails_even_with_high_cosines() -> None:
    """Different faces have cosines of 0.97, although the cosine of each face with its reference is still high."""
    rng = np.random.default_rng(0)
    reference = (rng.normal(size=(30, 128)) + 2).astype(np.float32)
    raw = reference + 8 * reference.mean(axis=0)
    why = compare(reference, embeddings(raw)).failures("int8")
    assert any("become similar" in reason for reason in why)


@pytest.mark.parametrize("factor", [np.nan, np.inf, 0, 100, -1])
def test_a_wrong_norm_fails_in_every_precision(factor: float) -> None:
    reference = np.random.default_rng(0).normal(size=(8, 32)).astype(np.float32)
    right = embeddings(reference)
    wrong = Embeddings(right.embedding, (right.norm * factor).astype(np.float32))
    for precision in ("fp32", "fp16", "bf16", "int8", "int8-cpu"):
        assert compare(reference, wrong).failures(precision), precision


def test_numbers_that_are_not_finite_fail() -> None:
    reference = np.ones((4, 8), np.float32) + np.eye(4, 8, dtype=np.float32)
    raw = reference.copy()
    raw[2, 3] = np.nan
    for precision in ("fp32", "fp16", "bf16", "int8"):
        assert compare(reference, embeddings(raw)).failures(precision)


def test_a_labelled_set_measures_accuracy_and_errors_over_all_different_subjects(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(200), 2)
    centres = rng.normal(size=(200, 32))
    faces = centres[subjects] + 0.3 * rng.normal(size=(400, 32))
    unit = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    first, second = np.arange(0, 400, 2), np.arange(1, 400, 2)
    strangers = np.roll(second, 2)
    labelled = Labelled(
        "a test",
        tmp_path / "none.npy",
        np.concatenate([first, first]),
        np.concatenate([second, strangers]),
        np.arange(400) < 200,
        subjects,
    )
    score = labelled.score(unit)
    similarities = unit @ unit.T
    between = similarities[np.triu(subjects[:, None] != subjects[None], 1)]
    assert score.threshold is not None
    assert (between >= score.threshold).mean() == pytest.approx(1e-3, rel=0.05)
    assert score.fnmr == pytest.approx(float((similarities[first, second] < score.threshold).mean()))
    assert score.accuracy > 0.95
    labelled.first[0] = -1
    assert labelled.score(unit).accuracy < score.accuracy


def test_the_fnmr_of_a_labelled_set_is_over_completed_comparisons(tmp_path: Path) -> None:
    """Of 200 subjects with two faces each, the first five have a face that is like no other."""
    rng = np.random.default_rng(0)
    subjects = np.repeat(np.arange(200), 2)
    faces = rng.normal(size=(200, 32))[subjects] + 0.1 * rng.normal(size=(400, 32))
    faces[:10:2] = rng.normal(size=(5, 32))
    unit = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    first, second = np.arange(0, 400, 2), np.arange(1, 400, 2)
    pairs = (np.append(first, first), np.append(second, np.roll(second, 2)), np.arange(400) < 200)
    labelled = Labelled("a test", tmp_path / "none.npy", *pairs, subjects)
    assert labelled.score(unit).fnmr == pytest.approx(5 / 200)
    labelled.first[[0, 100]] = -1
    assert labelled.score(unit).fnmr == pytest.approx(4 / 198), "one of the five and one other are not completed"


def test_limits_the_loss_of_accuracy_by_int8() -> None:
    reference = LabelledScore(0.99, 0.02, 0.3)
    assert LabelledScore(0.9891, 0.0219, 0.3).failures(reference) == []
    assert "10-fold" in LabelledScore(0.9889, 0.02, 0.3).failures(reference)[0]
    assert "FNMR" in LabelledScore(0.99, 0.0221, 0.3).failures(reference)[0]
