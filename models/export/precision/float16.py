"""Make the float16 graph of an artefact from its float32 one."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from models.export.precision.activations import largest_magnitudes
from models.graph import annotate, save_checked
from models.graph.float16 import nodes_near_overflow, to_float16


def write_float16(graph: Path, faces: Path, target: Path, notes: Mapping[str, str]) -> list[str]:
    """Write the graph in float16 and return the nodes that stay in float32 because their values come near its end.

    Args:
        graph: In float32, in the contract of `models.graph`.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB; what activations are measured on.
        target: File to write.
        notes: Written into the file.
    """
    model = onnx.load(graph)
    keep = nodes_near_overflow(model, largest_magnitudes(model, np.load(faces)))
    half = to_float16(model, keep)
    annotate(half, {**notes, "precision": "fp16"})
    save_checked(half, target)
    return [name for name in keep if not name.startswith("vultus_")]
