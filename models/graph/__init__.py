"""ONNX surgery without torch: any published detector or recognizer becomes a graph of Vultus' own contract.

Every graph that is served takes uint8 RGB pictures `[N, H, W, 3]`. Colour order, scaling and layout are inside it, so
that nothing is left for a caller to get wrong.
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
