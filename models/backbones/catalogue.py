"""Identify a network by the keys and shapes of its weights, which must match exactly."""

import itertools
import warnings
from functools import cache

import torch

from models.backbones import adaface_ir, iresnet, mobilefacenet, vit
from models.backbones.plan import Plan, Shapes
from models.errors import ArchitectureUnknown, LandmarksNeeded

_MATCHERS = (iresnet.match, adaface_ir.match, mobilefacenet.match_arcface, mobilefacenet.match_casia, vit.match)
_KNOWN = (*iresnet.KNOWN, *adaface_ir.KNOWN, *mobilefacenet.KNOWN, *vit.KNOWN)
_MAX_LISTED = 6  # differences in an error sentence
_MAX_KEYS = 20_000  # as many as a thousand blocks have
_NEXT_STEPS = (
    "to use another network, pass its definition with --builder package.module:callable, "
    "or import an ONNX file with: vultus import model.onnx"
)


def recognise(shapes: Shapes) -> Plan:
    """Return the plan of the network whose keys and shapes match exactly.

    Args:
        shapes: Shape of every weight, by its key without prefixes.

    Raises:
        LandmarksNeeded: The network takes landmarks as a second input.
        ArchitectureUnknown: No known network has exactly these keys and shapes. The message names the nearest.
    """
    if any("keypoint_linear" in key for key in shapes):
        raise LandmarksNeeded(
            "this is a KP-RPE model: it takes five landmarks as a second input, "
            "but the contract allows only one aligned crop; export a model without KP-RPE"
        )
    if len(shapes) > _MAX_KEYS:
        raise ArchitectureUnknown(f"the file holds {len(shapes)} weights, more than any network of a known family")
    candidates = [plan for match in _MATCHERS if (plan := match(shapes)) is not None and _can_be_built(plan)]
    for plan in candidates:
        if not _differences(plan, shapes):
            return plan
    raise ArchitectureUnknown(f"no known network has these weights; {_nearest(shapes, candidates)}; {_NEXT_STEPS}")


def _nearest(shapes: Shapes, candidates: list[Plan]) -> str:
    """Describe the nearest known network, under any prefix, and how the weights differ from it."""
    prefixes = {"", *(f"{key.partition('.')[0]}." for key in shapes if "." in key)}
    under = {prefix: _under(shapes, prefix) for prefix in prefixes}
    known = [(prefix, plan) for prefix in sorted(prefixes) for plan in (*candidates, *_KNOWN)]
    prefix, plan = min(known, key=lambda pair: (_count_differences(pair[1], under[pair[0]]), len(pair[0])))
    expected = expected_shapes(plan)
    if not expected.keys() & under[prefix].keys():
        examples = ", ".join(sorted(shapes)[:3])
        return f"the nearest is {plan.architecture}, but the file has none of its keys; its own keys include {examples}"
    differences = _differences(plan, under[prefix])
    differences += [f"{key} is not part of it" for key in shapes if not key.startswith(prefix)]
    listed = "; ".join(differences[:_MAX_LISTED])
    more = f"; and {len(differences) - _MAX_LISTED} more" if len(differences) > _MAX_LISTED else ""
    location = f", under the prefix {prefix}" if prefix else ""
    return f"the nearest is {plan.architecture}{location}, but {listed}{more}"


def _can_be_built(plan: Plan) -> bool:
    """Return whether the sizes inferred from a file form a valid network."""
    try:
        expected_shapes(plan)
    except (RuntimeError, TypeError, ValueError, ZeroDivisionError):
        return False
    return True


def _under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {key.removeprefix(prefix): shape for key, shape in shapes.items() if key.startswith(prefix)}


def expected_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by key, without allocating memory for the weights."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of layers of size zero, which a corrupt file may describe
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
    kinds = (other, extra, missing)  # interleaved, so that a long list does not push the others out of the message
    return [entry for row in itertools.zip_longest(*kinds) for entry in row if entry is not None]


def _is_counter(key: str) -> bool:
    """Return whether a key is the batch counter of a batch-norm (PyTorch 0.4.1 or later), unused at inference."""
    return key.endswith(".num_batches_tracked")


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a single number"
