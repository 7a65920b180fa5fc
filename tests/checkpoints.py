"""Checkpoint files for tests: small networks, weights that expose mistakes, and the form of AdaFace's training."""

import hashlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.backbones import Plan, adaface_ir, iresnet, mobilefacenet
from models.backbones.catalogue import expected_shapes

Weights = dict[str, NDArray[Any]]

SMALL = (1, 1, 1, 1)  # blocks in each stage
DIMENSIONS = 32


def small_iresnet() -> Plan:
    return iresnet.plan(SMALL, DIMENSIONS)


def small_adaface() -> Plan:
    return adaface_ir.plan(SMALL, DIMENSIONS)


def small_mobilefacenet() -> Plan:
    """The smallest network of a known family: its file has 3 MB."""
    return mobilefacenet.arcface_plan(scale=1, depths=(1, 1, 1, 1), dimensions=8)


def weights_for(plan: Plan, seed: int = 0) -> Weights:
    """Draw random weights, with a tiny variance in every eighth channel of a batch-norm to expose a wrong epsilon."""
    shapes = expected_shapes(plan)
    return {key: _draw(key, shape, shapes, seed) for key, shape in shapes.items()}


def _draw(key: str, shape: tuple[int, ...], keys: dict[str, tuple[int, ...]], seed: int) -> NDArray[Any]:
    stem, _, leaf = key.rpartition(".")
    if leaf == "num_batches_tracked":
        return np.array(100)
    rng = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")])
    is_norm, tiny = f"{stem}.running_mean" in keys, np.arange(shape[0]) % 8 == 0
    if leaf == "running_var":
        values = rng.uniform(0.5, 1.5, shape) * np.where(tiny & (f"{stem}.weight" in keys), 1e-4, 1)
    elif leaf == "weight" and len(shape) > 1:
        values = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
    elif leaf == "weight" and is_norm:
        values = rng.uniform(0.5, 1.5, shape) * np.where(tiny, 1e-2, 1)
    elif leaf == "weight":
        values = rng.uniform(0.1, 0.4, shape)
    else:
        values = rng.normal(size=shape) * 0.1
    return values.astype(np.float32)


def tensors(weights: Weights, prefix: str = "") -> "OrderedDict[str, torch.Tensor]":
    return OrderedDict((prefix + key, torch.from_numpy(np.array(array))) for key, array in weights.items())


def save(weights: Weights, path: Path) -> Path:
    torch.save(tensors(weights), path)
    return path


def adaface_checkpoint(weights: Weights, mean: float, deviation: float, **more: Any) -> dict[str, Any]:
    """Wrap weights in the form that AdaFace's training saves."""
    head = {
        "head.kernel": torch.zeros(len(weights["output_layer.3.bias"]), 10),
        "head.t": torch.zeros(1),
        "head.batch_mean": torch.tensor([mean]),
        "head.batch_std": torch.tensor([deviation]),
    }
    return {"epoch": 26, "state_dict": OrderedDict(**tensors(weights, "model."), **head), **more}
