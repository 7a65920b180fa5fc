"""Convert published ONNX detectors and recognizers to the graph contract of the service, without torch.

Every served graph takes uint8 RGB images `[N, H, W, 3]`. Colour order, scaling and layout are part of the graph, so
that callers do no preprocessing of their own.
"""

from models.graph.batchnorm import fold_batch_norms
from models.graph.contract import (
    DetectorOutputs,
    Preprocessing,
    UnsupportedGraph,
    annotate,
    detector_graph,
    insightface_graph,
    recognizer_graph,
    save_checked,
)
from models.graph.simplify import simplify, simplify_in_place

__all__ = [
    "DetectorOutputs",
    "Preprocessing",
    "UnsupportedGraph",
    "annotate",
    "detector_graph",
    "fold_batch_norms",
    "insightface_graph",
    "recognizer_graph",
    "save_checked",
    "simplify",
    "simplify_in_place",
]
