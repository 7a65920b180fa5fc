import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from models.evaluation.lfw_view2 import photos, read_pairs
from models.evaluation.verification import ten_fold_accuracy


def test_ten_folds_apply_the_threshold_of_the_other_nine() -> None:
    """Where one fold is shifted, its own best threshold must not be used."""
    similarity = np.tile([0.9, 0.1], 100).astype(np.float32)
    mated = np.tile([True, False], 100)
    assert ten_fold_accuracy(similarity, mated) == (1.0, 0.0)
    similarity[:20] = np.tile([0.05, 0.01], 10)  # separable, but not at the others' threshold
    assert ten_fold_accuracy(similarity, mated) == pytest.approx((0.95, 0.15))


def test_is_the_accuracy_of_the_official_code(shared: Path) -> None:
    """The seeded data of the official run, made by its own recipe, gives its mean and deviation."""
    golden = json.loads((shared / "reference" / "protocol_golden.json").read_text())["pairs"]
    spec = importlib.util.spec_from_file_location("recipe", shared / "reference" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    count, size = golden["n"], golden["dim"]
    base = (2 * recipe.uniform01("proto.base", 2 * count * size) - 1).reshape(2 * count, size)
    mated = np.arange(count) // 10 % 2 == 0
    base[1::2][mated] = base[::2][mated] + 1.1 * base[1::2][mated]
    fused = base + base + 0.1 * (2 * recipe.uniform01("proto.flip", 2 * count * size) - 1).reshape(2 * count, size)
    fused /= np.linalg.norm(fused, axis=1, keepdims=True)
    similarity = (fused[::2] * fused[1::2]).sum(axis=1)
    assert ten_fold_accuracy(similarity, mated) == pytest.approx((golden["mean_accuracy"], golden["std_accuracy"]))


def test_reads_pairs_of_both_kinds(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("10\t300\nAda_L\t1\t4\nAda_L\t2\tBob_B\t10\n")
    pairs = read_pairs(tmp_path / "pairs.txt")
    assert [pair.mated for pair in pairs] == [True, False]
    assert photos(pairs) == [
        "Ada_L/Ada_L_0001.jpg",
        "Ada_L/Ada_L_0002.jpg",
        "Ada_L/Ada_L_0004.jpg",
        "Bob_B/Bob_B_0010.jpg",
    ]
