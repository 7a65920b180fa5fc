"""Describe the known network that is nearest to unknown weights, and how they differ from it."""

from collections import Counter
from functools import cache

from models.backbones.catalogue import KNOWN, candidates, differences, known_shapes
from models.backbones.plan import Plan, Shapes
from models.checkpoint.keys import unwrapped
from models.text import listed, quoted

_MAX_LISTED = 6  # differences in a sentence
_MAX_PREFIXES = 4  # prefixes that are compared
_MAX_PARTS = 12  # dotted parts of a known key


def nearest(shapes: Shapes, prefixes: list[str]) -> str:
    """Describe the known network that shares the most weights, under any prefix, and the differences.

    Args:
        shapes: Shape of every weight, by its key in the file.
        prefixes: The prefixes under which a network of a known layout may lie.
    """
    plain = {unwrapped(key): shape for key, shape in shapes.items()}
    tried = list(dict.fromkeys(["", *map(unwrapped, prefixes[:_MAX_PREFIXES]), *_likely_prefixes(plain)]))
    compared = [
        (_shared(expected, under), -len(expected.keys() ^ under.keys()), -len(prefix), prefix, plan, expected)
        for prefix in tried
        for under in [_under(plain, prefix)]
        for plan, expected in _plans(under)
    ]
    shared, _, _, prefix, plan, expected = max(compared, key=lambda entry: entry[:3])
    if not shared:
        return f"they share no weight with any; their keys include {listed(sorted(shapes), 3)}"
    return _sentence(plan, prefix, differences(expected, _under(plain, prefix)))


def _sentence(plan: Plan, prefix: str, found: list[tuple[str, str]]) -> str:
    shown = "; ".join(f"{quoted(key)} {kind}" for key, kind in found[:_MAX_LISTED])
    more = f"; and {len(found) - _MAX_LISTED} more" if len(found) > _MAX_LISTED else ""
    location = f", under the prefix {quoted(prefix)}" if prefix else ""
    return f"the nearest is {plan.architecture}{location}, but {shown}{more}"


def _plans(under: Shapes) -> list[tuple[Plan, Shapes]]:
    return [*candidates(under), *((plan, known_shapes(plan)) for plan in KNOWN)]


def _shared(expected: Shapes, under: Shapes) -> int:
    return sum(under.get(key) == shape for key, shape in expected.items())


def _under(shapes: Shapes, prefix: str) -> dict[str, tuple[int, ...]]:
    return {key[len(prefix) :]: shape for key, shape in shapes.items() if key.startswith(prefix)}


def _likely_prefixes(plain: Shapes) -> list[str]:
    """Return the prefixes behind which the most keys are keys of a known network."""
    votes: Counter[str] = Counter()
    for key in plain:
        parts = key.rsplit(".", _MAX_PARTS)
        for first in range(1, len(parts)):
            rest = ".".join(parts[first:])
            if rest in _known_keys():
                votes[key[: len(key) - len(rest)]] += 1
    return [prefix for prefix, _ in votes.most_common(_MAX_PREFIXES)]


@cache
def _known_keys() -> frozenset[str]:
    return frozenset(key for plan in KNOWN for key in known_shapes(plan))
