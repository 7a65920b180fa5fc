"""The seeded inputs of `protocol_golden.json`, made by the recipe that comes with it."""

import importlib.util
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class GoldenPairs(NamedTuple):
    """Fused unit vectors of pairs, whether they are mated, and the official answers."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]
    mated: NDArray[np.bool_]
    answers: dict[str, Any]


class GoldenTemplates(NamedTuple):
    """Un-normalised embeddings of images, both views, and the official answers."""

    views: NDArray[np.float64]
    answers: dict[str, Any]


def golden_pairs(shared: Path) -> GoldenPairs:
    answers, recipe = _read(shared)
    golden = answers["pairs"]
    count, size = golden["n"], golden["dim"]
    base = (2 * recipe.uniform01("proto.base", 2 * count * size) - 1).reshape(2 * count, size)
    mated = np.arange(count) // 10 % 2 == 0
    base[1::2][mated] = base[::2][mated] + 1.1 * base[1::2][mated]
    fused = base + base + 0.1 * (2 * recipe.uniform01("proto.flip", 2 * count * size) - 1).reshape(2 * count, size)
    fused /= np.linalg.norm(fused, axis=1, keepdims=True)
    return GoldenPairs(fused[::2], fused[1::2], mated, golden)


def golden_templates(shared: Path) -> GoldenTemplates:
    answers, recipe = _read(shared)
    count = answers["templates"]["n_images"]
    views = (2 * recipe.uniform01("proto.ijb.feat", count * 16) - 1).reshape(count, 16)
    views *= (0.5 + 3 * recipe.uniform01("proto.ijb.norm", count))[:, None]
    return GoldenTemplates(views.reshape(count, 2, 8), answers["templates"])


def _read(shared: Path) -> tuple[dict[str, Any], Any]:
    spec = importlib.util.spec_from_file_location("recipe", shared / "reference" / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return json.loads((shared / "reference" / "protocol_golden.json").read_text()), recipe
