"""Recognise a network by the keys and shapes of its weights, exactly or not at all."""

import torch

from models.backbones import adaface_ir, iresnet, mobilefacenet, vit
from models.backbones.plan import Plan, Shapes
from models.errors import ArchitectureUnknown, LandmarksNeeded

_MATCHERS = (iresnet.match, adaface_ir.match, mobilefacenet.match_arcface, mobilefacenet.match_casia, vit.match)
_KNOWN = (*iresnet.KNOWN, *adaface_ir.KNOWN, *mobilefacenet.KNOWN, *vit.KNOWN)
_SHOWN = 6  # differences that an error lists
_HOW_TO_GO_ON = (
    "to go on, give your own network with --builder package.module:callable, "
    "or bring an ONNX file in with: vultus import model.onnx"
)


def recognise(shapes: Shapes) -> Plan:
    """Find the network that these weights belong to, down to the last key.

    Args:
        shapes: Shape of every weight by its bare key.

    Raises:
        LandmarksNeeded: It takes landmarks beside the picture.
        ArchitectureUnknown: No known network has just these keys and shapes; the message names the nearest.
    """
    if any("keypoint_linear" in key for key in shapes):
        raise LandmarksNeeded(
            "this is a KP-RPE model: it takes five landmarks as a second input, "
            "which the contract of one aligned crop does not have; export a model without KP-RPE"
        )
    candidates = [plan for match in _MATCHERS if (plan := match(shapes)) is not None]
    for plan in candidates:
        if not _differences(plan, shapes):
            return plan
    nearest = min(candidates or _KNOWN, key=lambda plan: len(_differences(plan, shapes)))
    differences = _differences(nearest, shapes)
    listed = "; ".join(differences[:_SHOWN])
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    raise ArchitectureUnknown(
        f"no known network has these weights; the nearest is {nearest.architecture}, but {listed}{more}; "
        f"{_HOW_TO_GO_ON}"
    )


def expected_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Build the network without memory for its weights and list their shapes."""
    with torch.device("meta"):
        return {key: tuple(tensor.shape) for key, tensor in plan.build().state_dict().items()}


def _differences(plan: Plan, shapes: Shapes) -> list[str]:
    expected = {key: shape for key, shape in expected_shapes(plan).items() if not _is_counter(key)}
    found = {key: shape for key, shape in shapes.items() if not _is_counter(key)}
    missing = [f"{key} is missing" for key in expected if key not in found]
    extra = [f"{key} is not part of it" for key in found if key not in expected]
    other = [
        f"{key} is {_size(found[key])} instead of {_size(expected[key])}"
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    return other + missing + extra


def _is_counter(key: str) -> bool:
    """Batch-norms count their batches since PyTorch 0.4.1; the number means nothing at inference."""
    return key.endswith(".num_batches_tracked")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
