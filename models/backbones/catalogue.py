"""The known networks: what weights they have, and which of them has exactly the given weights."""

import itertools
import warnings
from contextlib import suppress
from functools import cache

import torch

from models.backbones import adaface_ir, iresnet, mobilefacenet, vit
from models.backbones.plan import Plan, Shapes
from models.checkpoint.keys import HEADS

MATCHERS = {
    iresnet.ANCHOR: iresnet.match,
    adaface_ir.ANCHOR: adaface_ir.match,
    mobilefacenet.ARCFACE_ANCHOR: mobilefacenet.match_arcface,
    mobilefacenet.CASIA_ANCHOR: mobilefacenet.match_casia,
    vit.ANCHOR: vit.match,
}
"""By a key that every network of the layout has."""

KNOWN = (*iresnet.KNOWN, *adaface_ir.KNOWN, *mobilefacenet.KNOWN, *vit.KNOWN)
MAX_KEYS = 20_000
"""Number of weights that no known network exceeds; a thousand blocks have as many."""


def fitting(shapes: Shapes) -> Plan | None:
    """Return the plan of the known network that has exactly these weights, or None if there is none.

    Batch counters may be missing, and a head of training may be there in addition.

    Args:
        shapes: Shape of every weight, by its key without prefixes and without the names of wrappers.
    """
    if len(shapes) > MAX_KEYS:
        return None
    suggested = candidates(shapes)
    return next((plan for plan, expected in suggested if not differences(expected, shapes)), None)


def candidates(shapes: Shapes) -> list[tuple[Plan, Shapes]]:
    """Return the plans that some of the keys and shapes suggest, each with the shapes of all its weights."""
    found: list[tuple[Plan, Shapes]] = []
    for anchor, match in MATCHERS.items():
        plan = match(shapes) if anchor in shapes else None
        if plan is not None:
            with suppress(RuntimeError, TypeError, ValueError, ZeroDivisionError):  # the sizes form no valid network
                found.append((plan, expected_shapes(plan)))
    return found


def expected_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by key, without allocating memory for the weights."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of layers of size zero, which a corrupt file may describe
        return {key: tuple(tensor.shape) for key, tensor in plan.build().state_dict().items()}


@cache
def known_shapes(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return `expected_shapes` of a plan in `KNOWN`, computed once."""
    return expected_shapes(plan)


def differences(expected: Shapes, shapes: Shapes) -> list[tuple[str, str]]:
    """Return the key and the kind of each difference between weights and those of a network.

    A kind is `is missing`, `is not part of it` or `is A instead of B` with the sizes. Kinds are interleaved, so that a
    long list does not push the others out of a message.
    """
    expected = {key: shape for key, shape in expected.items() if not is_counter(key)}
    found = {key: shape for key, shape in shapes.items() if not is_counter(key) and not is_head(key)}
    missing = [(key, "is missing") for key in expected if key not in found]
    extra = [(key, "is not part of it") for key in found if key not in expected]
    other = [
        (key, f"is {_size(found[key])} instead of {_size(expected[key])}")
        for key in expected
        if key in found and found[key] != expected[key]
    ]
    return [entry for row in itertools.zip_longest(other, extra, missing) for entry in row if entry is not None]


def is_counter(key: str) -> bool:
    """Return whether a key is the batch counter of a batch-norm (PyTorch 0.4.1 or later), unused at inference."""
    return key.endswith(".num_batches_tracked")


def is_head(key: str) -> bool:
    """Return whether a key is one of a training head, which no known network has."""
    first, dot, _ = key.partition(".")
    return bool(dot) and first in HEADS


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:8])) or "a single number"
