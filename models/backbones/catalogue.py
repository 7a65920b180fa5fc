"""Recognise a network by the keys and shapes of its weights, exactly or not at all."""

import itertools
import warnings
from functools import cache

import torch

from models.backbones import adaface_ir, iresnet, mobilefacenet, vit
from models.backbones.plan import Plan, Shapes
from models.errors import ArchitectureUnknown, LandmarksNeeded

_MATCHERS = (iresnet.match, adaface_ir.match, mobilefacenet.match_arcface, mobilefacenet.match_casia, vit.match)
_KNOWN = (*iresnet.KNOWN, *adaface_ir.KNOWN, *mobilefacenet.KNOWN, *vit.KNOWN)
_SHOWN = 6  # differences that an error lists
_MOST_KEYS = 20_000  # of a thousand blocks
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
    if len(shapes) > _MOST_KEYS:
        raise ArchitectureUnknown(f"the file holds {len(shapes)} weights, more than any network of a known family")
    candidates = [plan for match in _MATCHERS if (plan := match(shapes)) is not None and _can_be_built(plan)]
    for plan in candidates:
        if not _differences(plan, shapes):
            return plan
    raise ArchitectureUnknown(f"no known network has these weights; {_nearest(shapes, candidates)}; {_HOW_TO_GO_ON}")


def _nearest(shapes: Shapes, candidates: list[Plan]) -> str:
    """Say which known network comes nearest, under whatever prefix, and what differs."""
    prefixes = {"", *(f"{key.partition('.')[0]}." for key in shapes if "." in key)}
    under = {prefix: _under(shapes, prefix) for prefix in prefixes}
    known = [(prefix, plan) for prefix in sorted(prefixes) for plan in (*candidates, *_KNOWN)]
    prefix, plan = min(known, key=lambda pair: (_count_differences(pair[1], under[pair[0]]), len(pair[0])))
    expected = expected_shapes(plan)
    if not expected.keys() & under[prefix].keys():
        held = ", ".join(sorted(shapes)[:3])
        return f"the nearest is {plan.architecture}, but it shares no key with the file, which holds {held}"
    differences = _differences(plan, under[prefix])
    differences += [f"{key} is not part of it" for key in shapes if not key.startswith(prefix)]
    listed = "; ".join(differences[:_SHOWN])
    more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
    place = f", under the prefix {prefix}" if prefix else ""
    return f"the nearest is {plan.architecture}{place}, but {listed}{more}"


def _can_be_built(plan: Plan) -> bool:
    """Tell whether the sizes that were read off a file make a network at all."""
    try:
        expected_shapes(plan)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError):
        return False
    return True


def _under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def expected_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Build the network without memory for its weights and list their shapes."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about layers of size zero, which a damaged file may ask for
        return {key: tuple(tensor.shape) for key, tensor in plan.build().state_dict().items()}


def _count_differences(plan: Plan, shapes: Shapes) -> int:
    return len(_known_entries(plan) ^ set(shapes.items()))


@cache
def _known_entries(plan: Plan) -> frozenset[tuple[str, tuple[int, ...]]]:
    return frozenset(expected_shapes(plan).items())


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
    kinds = (other, extra, missing)  # the file's own first; then in turn, so that no kind hides another
    return [entry for row in itertools.zip_longest(*kinds) for entry in row if entry is not None]


def _is_counter(key: str) -> bool:
    """Batch-norms count their batches since PyTorch 0.4.1; the number means nothing at inference."""
    return key.endswith(".num_batches_tracked")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
