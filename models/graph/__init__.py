"""ONNX surgery without torch: any published detector or recognizer becomes a graph of Vultus' own contract.

Every graph that is served takes uint8 RGB pictures `[N, H, W, 3]`. Colour order, scaling and layout are inside it, so
that nothing is left for a caller to get wrong.
"""

from models.graph.contract import (
    CONVERSION,
    DetectorOutputs,
    Preprocessing,
    UnsupportedGraph,
    detector_graph,
    recognizer_graph,
)
from models.graph.simplify import simplify

__all__ = [
    "CONVERSION",
    "DetectorOutputs",
    "Preprocessing",
    "UnsupportedGraph",
    "detector_graph",
    "recognizer_graph",
    "simplify",
]
