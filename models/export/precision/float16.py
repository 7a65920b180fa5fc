"""Write the float16 graph of an artefact from its float32 graph."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from models.export.precision.activations import largest_magnitudes
from models.graph import annotate, save_checked
from models.graph.float16 import nodes_near_overflow, to_float16


def write_float16(graph: Path, faces: Path, target: Path, notes: Mapping[str, str]) -> list[str]:
    """Write a graph in float16.

    Args:
        graph: ONNX file of the float32 graph in the contract of `models.graph`.
        faces: `.npy` file, (N, H, W, 3) uint8, RGB. Activations are measured on these faces.
        target: ONNX file to write.
        notes: Metadata to write into the file.

    Returns:
        First outputs of the network's nodes that stay in float32, because their values come close to the largest
        float16.
    """
    model = onnx.load(graph)
    keep = nodes_near_overflow(model, largest_magnitudes(model, np.load(faces)))
    half = to_float16(model, keep)
    annotate(half, {**notes, "precision": "fp16"})
    save_checked(half, target)
    return [name for name in keep if not name.startswith("vultus_")]
