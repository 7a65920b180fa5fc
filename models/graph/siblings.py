"""Merge narrow convolutions that read the same tensor into one convolution with the channels of all.

Detectors end in heads of few channels: YuNet has four at each stride, with 1, 1, 4 and 10 channels, each a pointwise
and a depthwise convolution. Engines compute 8 or 16 channels at once, and a convolution of one channel is slower than
one of 16: on a CPU with AVX2, YuNet takes a quarter longer in OpenVINO without this. Each output channel is still
computed from the same numbers, so only the rounding changes.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

_NARROW = 32  # output channels of a convolution up to which engines use their vector registers badly


def merge_siblings(model: onnx.ModelProto) -> None:
    """Merge sibling convolutions, and the depthwise convolutions behind them, in place.

    Args:
        model: A simplified model of at least opset 13, whose weights are initializers.
    """
    heads = _Heads(model.graph)
    instead: dict[str, list[onnx.NodeProto]] = {}  # by the output of the node that is replaced
    for siblings in heads.siblings():
        behind = heads.depthwise_behind(siblings)
        merged = [heads.merge(siblings, siblings[0].input[0])]
        if behind:
            merged.append(heads.merge(behind, merged[0].output[0], depthwise=True))
        replaced = [str(node.output[0]) for node in (*siblings, *behind)]
        instead |= {name: [] for name in replaced}
        instead[replaced[0]] = [*merged, heads.split(behind or siblings, merged[-1].output[0])]
    nodes = [new for node in model.graph.node for new in instead.get(node.output[0], [node])]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


class _Heads:
    """The convolutions of a graph, with the readers of each tensor."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._weights = {tensor.name: tensor for tensor in graph.initializer}
        self._reads = Counter(name for node in graph.node for name in node.input)
        self._reads.update(value.name for value in graph.output)
        self._reader = {name: node for node in graph.node for name in node.input}  # unique if `_reads` is 1

    def siblings(self) -> list[list[onnx.NodeProto]]:
        """Return the groups of at least two narrow convolutions that read the same tensor in the same way."""
        groups: dict[tuple[str, str], list[onnx.NodeProto]] = defaultdict(list)
        for node in self._graph.node:
            if self._is_layer(node) and _group(node) == 1 and self._channels(node) <= _NARROW:
                groups[node.input[0], self._geometry(node)].append(node)
        return [group for group in groups.values() if len(group) > 1]

    def depthwise_behind(self, siblings: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
        """Return the depthwise convolutions that read the siblings, one each; empty if it is not one each."""
        written = [node.output[0] for node in siblings if self._reads[node.output[0]] == 1]
        readers = [self._reader[name] for name in written if name in self._reader]
        depthwise = [node for node in readers if self._is_layer(node) and _group(node) == self._channels(node)]
        alike = len({self._geometry(node) for node in depthwise}) == 1
        return depthwise if alike and len(depthwise) == len(siblings) else []

    def merge(self, layers: Sequence[onnx.NodeProto], source: str, *, depthwise: bool = False) -> onnx.NodeProto:
        """Return one convolution of `source` with the output channels of all layers."""
        name = f"{layers[0].output[0]}_merged"
        for part, place in (("weight", 1), ("bias", 2)):
            values = np.concatenate([self._values(node, place) for node in layers])
            self._graph.initializer.append(numpy_helper.from_array(values, f"{name}_{part}"))
        kept = [attribute for attribute in layers[0].attribute if attribute.name != "group"]
        merged = helper.make_node("Conv", [source, f"{name}_weight", f"{name}_bias"], [name], name)
        groups = sum(map(self._channels, layers)) if depthwise else 1
        merged.attribute.extend([*kept, helper.make_attribute("group", groups)])
        return merged

    def split(self, layers: Sequence[onnx.NodeProto], merged: str) -> onnx.NodeProto:
        """Return the node that gives the readers of each layer its channels of the merged convolution."""
        sizes = np.array(list(map(self._channels, layers)), np.int64)
        self._graph.initializer.append(numpy_helper.from_array(sizes, f"{merged}_sizes"))
        return helper.make_node("Split", [merged, f"{merged}_sizes"], [node.output[0] for node in layers], axis=1)

    def _is_layer(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Conv" and len(node.input) == 3 and all(name in self._weights for name in node.input[1:])

    def _channels(self, layer: onnx.NodeProto) -> int:
        return int(self._weights[layer.input[1]].dims[0])

    def _geometry(self, layer: onnx.NodeProto) -> str:
        """Return everything that siblings must share: all attributes but the groups, and the kernel's other sizes."""
        attributes = sorted(str(attribute) for attribute in layer.attribute if attribute.name != "group")
        return f"{attributes} {list(self._weights[layer.input[1]].dims[1:])}"

    def _values(self, layer: onnx.NodeProto, place: int) -> NDArray[np.float32]:
        return numpy_helper.to_array(self._weights[layer.input[place]])


def _group(layer: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in layer.attribute if attribute.name == "group"), 1)
