"""A checkpoint as a running network: its answers, which are the reference of every proof, and its graph.

The only module of the exporter that runs torch, beside the definitions in `models.backbones`.
"""

import importlib
import logging
import sys
import warnings
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.alignment import TEMPLATES
from models.backbones import Plan
from models.checkpoint import Weights
from models.errors import ArchitectureUnknown, BuilderUnfit
from models.graph import Preprocessing
from models.types import Progress, no_progress

OPSET = 18  # what torch's exporter writes without a conversion
_BATCH = 8
EMBEDDING_STEP = "embedding by the network itself"

_WRAPPER = "inner."  # the member of `_Raw` that holds the network


class Network:
    """A network with the weights of a checkpoint, in evaluation mode and float32."""

    def __init__(self, plan: Plan, weights: Weights, stored: Weights | None = None) -> None:
        """Build the network and give it its weights, which are used where they lie.

        Args:
            plan: The network.
            weights: By bare key.
            stored: By the keys that the file has, which count where they are the network's own: a network of the user's
                may have a `head` or a `backbone`.

        Raises:
            ArchitectureUnknown: The weights do not fit; only a builder of the user's own gets that far.
        """
        self._module = _build(plan, on_meta=plan.family != "own")
        own = {key for key in self._module.state_dict() if not key.endswith(".num_batches_tracked")}
        if stored is not None and own <= stored.keys():
            weights = stored
        tensors = {key: _tensor(array) for key, array in weights.items()}
        _add_counters(self._module, tensors)
        try:
            self._module.load_state_dict(tensors, strict=True, assign=True)
        except RuntimeError as error:
            raise ArchitectureUnknown(f"the weights do not fit {plan.architecture}: {_first_lines(error)}") from error
        self._module.eval()

    def embed(
        self, faces: NDArray[np.uint8], preprocessing: Preprocessing, progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        """Embed faces the way the official evaluation does, independently of what is put into the graph.

        Args:
            faces: (N, H, W, 3) uint8, RGB.
            preprocessing: What the network wants to see.
            progress: Called after each batch with the faces done.

        Returns:
            (N, D) float32 before normalisation.

        Raises:
            BuilderUnfit: The user's own network fails or gives something else than embeddings.
        """
        parts = []
        for start in range(0, len(faces), _BATCH):
            batch = faces[start : start + _BATCH]
            parts.append(self._embed(_network_input(batch, preprocessing), preprocessing))
            progress(EMBEDDING_STEP, start + len(batch), len(faces))
        return np.concatenate(parts)

    def _embed(self, planes: Tensor, preprocessing: Preprocessing) -> NDArray[np.float32]:
        with torch.inference_mode():
            raw = self._run(planes)
            if preprocessing.mirror:
                raw = raw + self._run(planes.flip(3))
        return raw.numpy()

    def _run(self, planes: Tensor) -> Tensor:
        try:
            answer = self._module(planes)
            _refuse_other_pairs(answer)
            raw = _raw_embedding(answer)
        except (RuntimeError, TypeError, ValueError) as error:
            raise BuilderUnfit(f"the network does not run on [N, 3, H, W]: {_first_lines(error)}") from error
        if raw.ndim != 2 or len(raw) != len(planes):
            raise BuilderUnfit(f"the network gives {list(raw.shape)} for {len(planes)} faces instead of [N, D]")
        return raw


class _Raw(nn.Module):
    """A network reduced to its embedding before normalisation."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, picture: Tensor) -> Tensor:
        return _raw_embedding(self.inner(picture))


def structure(plan: Plan) -> onnx.ModelProto:
    """Return the graph of a network without its weights.

    Returns:
        Float `[N, 3, H, W]` to `[N, D]`; every weight is an initializer of external location under its own key.

    Raises:
        BuilderUnfit: The user's own network cannot be exported.
    """
    template, known = TEMPLATES[plan.template], plan.family != "own"
    module = _Raw(_build(plan, on_meta=known)).eval()
    picture = torch.zeros(2, 3, template.height, template.width, device="meta" if known else "cpu")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it announces what is not installed and not needed
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (picture,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                verbose=False,
                optimize=False,
            )
        except Exception as error:  # torch's exporter raises many kinds for what it cannot trace
            raise BuilderUnfit(f"torch cannot export the network: {_first_lines(error)}") from error
    assert program is not None
    return _hollow(program.model, module.state_dict().keys())


def builder_plan(reference: str, template: str) -> Plan:
    """Make a plan of the user's own network.

    Args:
        reference: `package.module:callable`; called without arguments it returns an `nn.Module` that turns
            `[N, 3, H, W]` into `[N, D]`, or into a pair of unit embeddings and norms as AdaFace's does.
        template: Alignment template of its crops.

    Raises:
        BuilderUnfit: There is no such callable.
    """
    module_name, _, name = reference.partition(":")
    sys.path.insert(0, str(Path.cwd()))  # a module beside the checkpoint, as `python -m` would find it
    try:
        build = getattr(importlib.import_module(module_name), name)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise BuilderUnfit(f"the builder {reference} cannot be imported: {_first_lines(error)}") from error
    finally:
        sys.path.pop(0)
    if not callable(build):
        raise BuilderUnfit(f"the builder {reference} cannot be called")
    return Plan("own", reference, build, template)


def _build(plan: Plan, on_meta: bool) -> nn.Module:
    if on_meta:
        with torch.device("meta"):
            return plan.build()
    try:
        module = plan.build()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise BuilderUnfit(f"the builder {plan.architecture} failed: {_first_lines(error)}") from error
    if not isinstance(module, nn.Module):
        raise BuilderUnfit(f"the builder {plan.architecture} gives a {type(module).__name__}, not an nn.Module")
    return module


def _tensor(array: NDArray[Any]) -> Tensor:
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        return torch.from_numpy(array if array.dtype == np.float32 else array.astype(np.float32))
    return torch.from_numpy(np.array(array))


def _add_counters(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Old files lack the batch counters of batch-norms, which mean nothing at inference."""
    for key in module.state_dict():
        if key.endswith(".num_batches_tracked"):
            tensors.setdefault(key, torch.zeros((), dtype=torch.int64))


def _network_input(faces: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    ordered = faces if preprocessing.color == "rgb" else faces[..., ::-1]
    scaled = (ordered.astype(np.float32) - np.array(preprocessing.mean, np.float32)) / np.array(
        preprocessing.std, np.float32
    )
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def _refuse_other_pairs(answer: Any) -> None:
    """Refuse a pair whose first part is not of length 1: nobody but its author knows what it is."""
    if isinstance(answer, tuple | list) and len(answer) == 2:
        lengths = torch.linalg.vector_norm(answer[0], dim=1)
        if not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3):
            raise BuilderUnfit("the network gives a pair whose first part is no unit embedding")


def _raw_embedding(answer: Any) -> Tensor:
    """Take the embedding of a network that gives it alone, or as unit vector and norm."""
    if isinstance(answer, tuple | list) and len(answer) == 2:
        unit, norm = answer
        raw: Tensor = unit * norm.reshape(-1, 1)
        return raw
    if not isinstance(answer, Tensor):
        raise BuilderUnfit(f"the network gives a {type(answer).__name__} instead of a tensor [N, D]")
    return answer


def _hollow(model: onnx_ir.Model, keys: Collection[str]) -> onnx.ModelProto:
    """Drop the values of all weights, and the wrapper's prefix from their names."""
    for value in model.graph.initializers.values():
        given = value.const_value
        if given is not None and value.name in keys:  # else a constant of the code, which no checkpoint holds
            shape = onnx_ir.Shape(given.shape.numpy())
            value.const_value = onnx_ir.ExternalTensor("", None, None, given.dtype, shape=shape, name=value.name or "")
    skeleton = onnx_ir.to_proto(model)
    for tensor in skeleton.graph.initializer:
        tensor.name = tensor.name.removeprefix(_WRAPPER)
    for node in skeleton.graph.node:
        node.input[:] = [name.removeprefix(_WRAPPER) for name in node.input]
    for described in skeleton.graph.value_info:
        described.name = described.name.removeprefix(_WRAPPER)
    return skeleton


def _first_lines(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])[:400] or type(error).__name__
