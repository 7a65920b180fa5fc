"""A checkpoint as a torch network: its embeddings, which are the reference of every parity proof, and its graph.

Only this module and the definitions in `models.backbones` run torch.
"""

import logging
import warnings
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
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
from models.checkpoint.elements import is_floating
from models.errors import ArchitectureUnknown, BuilderUnfit
from models.export.builder import Builder, first_lines
from models.export.independence import depends_on_batch
from models.graph import Preprocessing
from models.types import Progress, no_progress

OPSET = 18  # torch's exporter writes this opset without a conversion
_BATCH = 8
EMBEDDING_STEP = "embedding with the source network"

_WRAPPER = "inner."  # prefix of all keys of `_Raw`: the name of the member that holds the network


class SourceNetwork:
    """A torch network with the weights of a checkpoint, in evaluation mode and float32."""

    def __init__(self, plan: Plan, weights: Weights, stored: Weights | None = None) -> None:
        """Build the network and load its weights; float32 weights are shared, not copied.

        Args:
            plan: The recognised network, or the one that the user's builder makes.
            weights: Weights by key without the prefixes of training wrappers.
            stored: The same weights by their keys in the file. They are used instead of `weights` if they include
                every key of the network, because the user's own network may have a member `head` or `backbone`.

        Raises:
            ArchitectureUnknown: The weights do not fit the network. Only the network of a user's builder can fail here.
            BuilderUnfit: The user's builder fails or does not return an `nn.Module`.
        """
        self._module = _build(plan, on_meta=plan.family != "own")
        self._plan = plan
        required = {key for key in self._module.state_dict() if not key.endswith(".num_batches_tracked")}
        if stored is not None and required <= stored.keys():
            weights = stored
        tensors = {key: _tensor(array) for key, array in weights.items()}
        _add_counters(self._module, tensors)
        try:
            self._module.load_state_dict(tensors, strict=True, assign=True)
        except RuntimeError as error:
            raise ArchitectureUnknown(f"the weights do not fit {plan.architecture}: {first_lines(error)}") from error
        self._module.eval()

    def embed(
        self, faces: NDArray[np.uint8], preprocessing: Preprocessing, progress: Progress = no_progress
    ) -> NDArray[np.float32]:
        """Embed faces as the official evaluations do.

        Preprocessing is computed here, independently of the preprocessing inside the exported graph, so that the proof
        finds a mistake in either.

        Args:
            faces: (N, H, W, 3) uint8, RGB.
            preprocessing: Colour order and scaling of the network's input, and mirror fusion.
            progress: Called after each batch with the number of faces done.

        Returns:
            (N, D) float32, embeddings before normalisation.

        Raises:
            BuilderUnfit: The user's own network fails or does not return embeddings.
        """
        parts = []
        for start in range(0, len(faces), _BATCH):
            batch = faces[start : start + _BATCH]
            parts.append(self._embed(_network_input(batch, preprocessing), preprocessing))
            progress(EMBEDDING_STEP, start + len(batch), len(faces))
        return np.concatenate(parts)

    def require_independence(self, faces: NDArray[np.uint8], preprocessing: Preprocessing) -> None:
        """Refuse a network in which an embedding depends on the other faces of a batch.

        Args:
            faces: (N, H, W, 3) uint8, RGB, at least two.
            preprocessing: Colour order and scaling of the network's input, and mirror fusion.

        Raises:
            BuilderUnfit: A face has another embedding alone than in a batch.
        """
        if depends_on_batch(lambda batch: self.embed(batch, preprocessing), faces, "fp32"):
            raise BuilderUnfit(
                "the network returns another embedding for a face alone than in a batch; an embedding must depend on "
                "its face only (a mean over the batch, a batch-norm in training mode and random numbers prevent that)"
            )

    def _embed(self, planes: Tensor, preprocessing: Preprocessing) -> NDArray[np.float32]:
        with torch.inference_mode():
            raw = self._run(planes)
            if preprocessing.mirror:
                raw = raw + self._run(planes.flip(3))
        return raw.numpy()

    def _run(self, planes: Tensor) -> Tensor:
        try:
            with _modules(self._plan):
                output = self._module(planes)
            _refuse_other_pairs(output)
            raw = _raw_embedding(output)
        except (RuntimeError, TypeError, ValueError) as error:
            raise BuilderUnfit(f"the network does not run on [N, 3, H, W]: {first_lines(error)}") from error
        if raw.ndim != 2 or len(raw) != len(planes):
            raise BuilderUnfit(f"the network returns {list(raw.shape)} for {len(planes)} faces instead of [N, D]")
        return raw


class _Raw(nn.Module):
    """A network reduced to its embedding before normalisation."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, picture: Tensor) -> Tensor:  # its name is a tensor name in the exported graph
        return _raw_embedding(self.inner(picture))


def graph_without_weights(plan: Plan) -> onnx.ModelProto:
    """Return the ONNX graph of a network without its weights.

    Returns:
        A graph from float `[N, 3, H, W]` to `[N, D]`. Every weight is an initializer with external location and
        without values, named by its key.

    Raises:
        BuilderUnfit: The user's builder fails, or torch cannot export its network.
    """
    template, known = TEMPLATES[plan.template], plan.family != "own"
    module = _Raw(_build(plan, on_meta=known)).eval()
    example = torch.zeros(2, 3, template.height, template.width, device="meta" if known else "cpu")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # torch warns about optional packages
    with torch.no_grad(), warnings.catch_warnings(), _modules(plan):
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("N")},),
                opset_version=OPSET,
                verbose=False,
                optimize=False,
            )
        except Exception as error:  # torch's exporter raises many classes for code that it cannot trace
            raise BuilderUnfit(f"torch cannot export the network: {first_lines(error)}") from error
    assert program is not None
    return _without_values(program.model, module.state_dict().keys())


def builder_plan(reference: str, template: str) -> Plan:
    """Return a plan of the user's own network.

    Args:
        reference: `package.module:callable`. Called without arguments, it returns an `nn.Module` that maps
            `[N, 3, H, W]` to `[N, D]`, or to a pair of unit embeddings and norms as AdaFace's network does.
        template: Name of the alignment template of its crops.

    Raises:
        BuilderUnfit: The module cannot be imported or has no such callable.
    """
    return Plan("own", reference, Builder(reference), template)


def _modules(plan: Plan) -> AbstractContextManager[None]:
    """Return the context in which the code of a network finds the modules that it imports."""
    return plan.build.modules() if isinstance(plan.build, Builder) else nullcontext()


def _build(plan: Plan, on_meta: bool) -> nn.Module:
    if on_meta:
        with torch.device("meta"):
            return plan.build()
    try:
        module = plan.build()
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise BuilderUnfit(f"the builder {plan.architecture} failed: {first_lines(error)}") from error
    if not isinstance(module, nn.Module):
        raise BuilderUnfit(f"the builder {plan.architecture} returns a {type(module).__name__}, not an nn.Module")
    return module


def _tensor(array: NDArray[Any]) -> Tensor:
    if is_floating(array.dtype):
        return torch.from_numpy(array if array.dtype == np.float32 else array.astype(np.float32))
    return torch.from_numpy(np.array(array))


def _add_counters(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Add the missing batch counters of batch-norms: old files lack them, and inference ignores them."""
    for key in module.state_dict():
        if key.endswith(".num_batches_tracked"):
            tensors.setdefault(key, torch.zeros((), dtype=torch.int64))


def _network_input(faces: NDArray[np.uint8], preprocessing: Preprocessing) -> Tensor:
    ordered = faces if preprocessing.color == "rgb" else faces[..., ::-1]
    scaled = (ordered.astype(np.float32) - np.array(preprocessing.mean, np.float32)) / np.array(
        preprocessing.std, np.float32
    )
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(0, 3, 1, 2)))


def _refuse_other_pairs(output: Any) -> None:
    """Refuse a pair with a first part that is not of length 1, because its meaning is unknown."""
    if isinstance(output, tuple | list) and len(output) == 2:
        lengths = torch.linalg.vector_norm(output[0], dim=1)
        if not torch.allclose(lengths, torch.ones_like(lengths), atol=1e-3):
            raise BuilderUnfit("the network returns a pair, and its first part is not a unit embedding")


def _raw_embedding(output: Any) -> Tensor:
    """Return the embedding before normalisation, from a single tensor or from a pair of unit embedding and norm."""
    if isinstance(output, tuple | list) and len(output) == 2:
        unit, norm = output
        raw: Tensor = unit * norm.reshape(-1, 1)
        return raw
    if not isinstance(output, Tensor):
        raise BuilderUnfit(f"the network returns a {type(output).__name__} instead of a tensor [N, D]")
    return output


def _without_values(model: onnx_ir.Model, keys: Collection[str]) -> onnx.ModelProto:
    """Drop the values of all weights, and the wrapper's prefix from their names."""
    for value in model.graph.initializers.values():
        constant = value.const_value
        if constant is not None and value.name in keys:  # constants of the code stay; no checkpoint holds them
            shape = onnx_ir.Shape(constant.shape.numpy())
            value.const_value = onnx_ir.ExternalTensor(
                "", None, None, constant.dtype, shape=shape, name=value.name or ""
            )
    skeleton = onnx_ir.to_proto(model)
    for tensor in skeleton.graph.initializer:
        tensor.name = tensor.name.removeprefix(_WRAPPER)
    for node in skeleton.graph.node:
        node.input[:] = [name.removeprefix(_WRAPPER) for name in node.input]
    for value_info in skeleton.graph.value_info:
        value_info.name = value_info.name.removeprefix(_WRAPPER)
    return skeleton
