"""Make the batch of a graph free that was exported for one face or a fixed number of faces.

Exporters write the batch into shapes (`view(1, 784)`), and operators without axes (`Squeeze`, `ReduceL2`) treat a batch
of one as if it were not there. Each rule here gives one operator its meaning for one face, whatever the batch is. A
tensor whose batch axis the original drops keeps it here as a leading axis, which is called hidden: later axes count one
more. The rules are not proven by themselves: the caller compares the graph with the original, face by face.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from models.graph.shapes import Shape, infer_shapes
from models.graph.simplify import declared_opset

_REDUCTIONS = {f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum")}
_REDUCTIONS.add("ReduceSumSquare")
_REDUCTION_AXES_AS_INPUT = 18  # the opset from which they are no attribute
_SAME_FOR_ONE = {"ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"}  # of one value, the value itself
_ALONG_ONE_AXIS = {"LpNormalization", "Softmax", "LogSoftmax", "Hardmax", "CumSum", "Concat"}


def free_batch(model: onnx.ModelProto, batch: int) -> None:
    """Rewrite the operators that hold the size of the batch, in place; others stay as they are.

    Args:
        model: A simplified model of at least opset 17, whose first axis of the input is the batch.
        batch: Number of faces that the graph was exported for.
    """
    _Batching(model, batch).run()


class _Batching:
    """One pass over the nodes in their order.

    Attributes:
        _axis: Axis of the batch by tensor; tensors that hold no faces are missing.
        _hidden: Tensors that have a leading batch axis here and none in the original.
    """

    def __init__(self, model: onnx.ModelProto, batch: int) -> None:
        self._graph = model.graph
        self._batch = batch
        self._shapes: Mapping[str, Shape] = infer_shapes(model)
        self._weights = {tensor.name: tensor for tensor in model.graph.initializer}
        self._axis = {value.name: 0 for value in model.graph.input}
        self._hidden: set[str] = set()
        self._before: list[onnx.NodeProto] = []
        self._opset = declared_opset(model)
        self._rules: dict[str, Callable[[onnx.NodeProto], bool]] = {
            "Reshape": self._reshape,
            "Squeeze": self._squeeze,
            "Unsqueeze": self._unsqueeze,
            "Flatten": self._flatten,
            "Gather": self._gather,
            "Slice": self._slice,
            "Transpose": self._transpose,
            **dict.fromkeys(_REDUCTIONS, self._reduce),
            **dict.fromkeys(_ALONG_ONE_AXIS, self._along_axis),
        }

    def run(self) -> None:
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            carried = next((name for name in node.input if name in self._axis), None)
            if carried is not None and node.op_type not in ("Shape", "Size"):
                rule = self._rules.get(node.op_type)
                source = rule is not None and carried == node.input[0]
                if not (source or node.op_type == "Concat") or rule is None or not rule(node):
                    self._pass_on(node)
            nodes.extend([*self._before, node])
            self._before.clear()
        del self._graph.node[:]
        self._graph.node.extend(nodes)

    def _pass_on(self, node: onnx.NodeProto) -> None:
        """Let the outputs of a node have the batch where its inputs have it."""
        carried = [name for name in node.input if name in self._axis]
        hidden = all(name in self._hidden for name in carried)
        for name in node.output:
            self._mark(name, 0 if hidden else max(self._axis[name] for name in carried), hidden)

    def _mark(self, name: str, axis: int = 0, hidden: bool = False) -> bool:
        self._axis[name] = axis
        if hidden:
            self._hidden.add(name)
        return True

    def _reshape(self, node: onnx.NodeProto) -> bool:
        target, output = self._integers(node, 1), node.output[0]
        if target is None or not target:
            return False
        axis = self._axis[node.input[0]]
        if axis < len(target) and target[axis] == self._batch:
            target[axis] = 0 if -1 in target else -1
            self._set_target(node, target)
            return self._mark(output, axis)
        if axis and axis < len(target) and -1 not in target and 0 not in target:  # heads of attention join the batch
            target[axis] = -1
            self._set_target(node, target)
            return self._mark(output, axis)
        shape = self._shapes.get(output, ())
        if axis or (target[0] == -1 and shape[:1] == (self._batch,)) or self._batch != 1 or 0 in target:
            return False
        self._set_target(node, [0, *target])
        return self._mark(output, hidden=True)

    def _squeeze(self, node: onnx.NodeProto) -> bool:
        rank, axes = self._rank(node.input[0]), self._axes(node)
        if rank is None:
            return False
        shape, batch = self._shapes[node.input[0]], self._axis[node.input[0]]
        if axes is None:
            axes = [axis for axis, size in enumerate(shape) if size == 1]
        hidden = node.input[0] in self._hidden
        drops = not hidden and self._batch == 1 and batch in axes
        if drops and batch:
            return False
        kept = [axis + hidden for axis in axes if hidden or axis != batch]
        self._set_axes(node, kept)
        return self._mark(node.output[0], batch - sum(axis < batch for axis in kept), hidden or drops)

    def _unsqueeze(self, node: onnx.NodeProto) -> bool:
        axes, hidden = self._axes(node), node.input[0] in self._hidden
        if axes is None or min(axes, default=-1) < 0:
            return False
        if hidden:
            restored = 0 in axes
            self._set_axes(node, [axis for axis in axes if axis] if restored else [axis + 1 for axis in axes])
            return self._mark(node.output[0], hidden=not restored)
        if self._axis[node.input[0]] == 0 and 0 in axes:
            self._set_axes(node, [axis or 1 for axis in axes])
            return self._mark(node.output[0])
        return False

    def _flatten(self, node: onnx.NodeProto) -> bool:
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        rank = self._rank(node.input[0])
        if rank is None or self._batch != 1 or self._axis[node.input[0]]:
            return False
        axis += rank if axis < 0 else 0
        sizes = self._shapes[node.input[0]][:axis]
        if axis == 0:
            self._become(node, "Flatten")  # of axis 1
            return self._mark(node.output[0])
        if node.input[0] in self._hidden or any(size != 1 for size in sizes):
            rows = self._shapes.get(node.output[0], ("",))[0]
            if axis == 1 and node.input[0] not in self._hidden:
                return False
            if not isinstance(rows, int):
                return False
            self._become(node, "Reshape")
            self._set_target(node, [0, rows, -1])
            return self._mark(node.output[0], hidden=True)
        return False

    def _reduce(self, node: onnx.NodeProto) -> bool:
        rank, axes, hidden = self._rank(node.input[0]), self._axes(node), node.input[0] in self._hidden
        if rank is None or self._batch != 1 or self._axis[node.input[0]]:
            return False
        if not axes:  # of all values: one length for each face
            self._set_axes(node, list(range(1, rank + hidden)))
            self._set_attribute(node, "keepdims", 1)
            return self._mark(node.output[0])
        axes = [axis + rank if axis < 0 else axis for axis in axes]
        keeps = next((item.i for item in node.attribute if item.name == "keepdims"), 1)
        if hidden:
            self._set_axes(node, [axis + 1 for axis in axes])
            return self._mark(node.output[0], hidden=True)
        if 0 not in axes:
            return self._mark(node.output[0])
        if len(axes) > 1:
            self._set_axes(node, [axis for axis in axes if axis])
        elif node.op_type in _SAME_FOR_ONE:
            self._become(node, "Identity")
        else:
            return False
        return self._mark(node.output[0], hidden=not keeps)

    def _gather(self, node: onnx.NodeProto) -> bool:
        axis, batch = next((item.i for item in node.attribute if item.name == "axis"), 0), self._axis[node.input[0]]
        index, rank = self._array(node, 1), self._rank(node.input[0])
        if index is None or rank is None:
            return False
        axis += rank if axis < 0 else 0
        if node.input[0] in self._hidden:
            self._set_attribute(node, "axis", axis + 1)
            return self._mark(node.output[0], hidden=True)
        if axis != batch:
            return self._mark(node.output[0], batch - (axis < batch and index.ndim == 0))
        if self._batch != 1 or batch or index.size != 1 or index.ravel()[0] not in (0, -1):
            return False
        self._become(node, "Identity")
        return self._mark(node.output[0], hidden=index.ndim == 0)

    def _slice(self, node: onnx.NodeProto) -> bool:
        axes, rank = self._integers(node, 3), self._rank(node.input[0])
        if axes is None or rank is None:
            return False
        axes = [axis + rank if axis < 0 else axis for axis in axes]
        if node.input[0] in self._hidden:
            node.input[3] = self._constant(f"{node.output[0]}_axes", [axis + 1 for axis in axes])
            return self._mark(node.output[0], hidden=True)
        if axes == [self._axis[node.input[0]]] and self._batch == 1:
            self._become(node, "Identity")
        return self._mark(node.output[0], self._axis[node.input[0]])

    def _transpose(self, node: onnx.NodeProto) -> bool:
        order = list(node.attribute[0].ints) if node.attribute else []
        if not order:
            return False
        if node.input[0] in self._hidden:
            node.attribute[0].ints[:] = [0, *(axis + 1 for axis in order)]
            return self._mark(node.output[0], hidden=True)
        return self._mark(node.output[0], order.index(self._axis[node.input[0]]))

    def _along_axis(self, node: onnx.NodeProto) -> bool:
        axis = next((item for item in node.attribute if item.name == "axis"), None)
        hidden = any(name in self._hidden for name in node.input)
        if hidden and axis is not None and axis.i >= 0:
            axis.i += 1
        if node.op_type == "Concat" and not hidden:
            self._repeat_constants(node)
        return False

    def _repeat_constants(self, node: onnx.NodeProto) -> None:
        """Repeat constants of a batch of one, such as a transformer's class token, for every face."""
        carried = next(name for name in node.input if name in self._axis)
        axis = next(item.i for item in node.attribute if item.name == "axis")
        for position, name in enumerate(node.input):
            tensor = self._weights.get(name)
            if tensor is None or self._axis[carried] or not axis or not tensor.dims or tensor.dims[0] != 1:
                continue
            count, shape, repeated = (f"{node.output[0]}_{part}{position}" for part in ("count", "shape", "repeated"))
            rest = self._constant(f"{shape}_rest", list(tensor.dims[1:]))
            self._before += [
                onnx.helper.make_node("Shape", [carried], [count], start=0, end=1),
                onnx.helper.make_node("Concat", [count, rest], [shape], axis=0),
                onnx.helper.make_node("Expand", [name, shape], [repeated]),
            ]
            node.input[position] = repeated

    def _rank(self, name: str) -> int | None:
        """Return the rank that a tensor has in the original."""
        return len(self._shapes[name]) if name in self._shapes else None

    def _array(self, node: onnx.NodeProto, position: int) -> np.ndarray | None:
        tensor = self._weights.get(node.input[position]) if len(node.input) > position else None
        return None if tensor is None else numpy_helper.to_array(tensor)

    def _integers(self, node: onnx.NodeProto, position: int) -> list[int] | None:
        array = self._array(node, position)
        return None if array is None else [int(number) for number in array.ravel()]

    def _axes(self, node: onnx.NodeProto) -> list[int] | None:
        """Return the axes of a node, from its attribute or its second input; None if it states none."""
        attribute = next((item for item in node.attribute if item.name == "axes"), None)
        axes = list(attribute.ints) if attribute is not None else self._integers(node, 1)
        rank = self._rank(node.input[0])
        if axes is None or rank is None or node.op_type == "Unsqueeze":
            return axes
        return [axis + rank if axis < 0 else axis for axis in axes]

    def _set_axes(self, node: onnx.NodeProto, axes: Sequence[int]) -> None:
        if not axes:
            self._become(node, "Identity")
            return
        attribute = next((item for item in node.attribute if item.name == "axes"), None)
        takes_input = node.op_type in ("Squeeze", "Unsqueeze", "ReduceSum") or self._opset >= _REDUCTION_AXES_AS_INPUT
        if attribute is not None:
            attribute.ints[:] = axes
        elif takes_input:
            del node.input[1:]
            node.input.append(self._constant(f"{node.output[0]}_axes", axes))
        else:
            node.attribute.append(onnx.helper.make_attribute("axes", list(axes)))

    def _set_target(self, node: onnx.NodeProto, target: Sequence[int]) -> None:
        del node.input[1:]
        node.input.append(self._constant(f"{node.output[0]}_target", target))
        for item in [item for item in node.attribute if item.name == "allowzero"]:
            node.attribute.remove(item)

    def _set_attribute(self, node: onnx.NodeProto, name: str, number: int) -> None:
        for item in [item for item in node.attribute if item.name == name]:
            node.attribute.remove(item)
        node.attribute.append(onnx.helper.make_attribute(name, number))

    def _become(self, node: onnx.NodeProto, kind: str) -> None:
        node.CopyFrom(onnx.helper.make_node(kind, [node.input[0]], list(node.output[:1])))

    def _constant(self, name: str, numbers: Sequence[int]) -> str:
        tensor = numpy_helper.from_array(np.array(numbers, np.int64), f"vultus_{name}")
        self._graph.initializer.append(tensor)
        self._weights[tensor.name] = tensor
        return tensor.name
