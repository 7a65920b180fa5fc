"""Select the weights of the network among the members of a checkpoint file."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.checkpoint.keys import WRAPPERS, Locate, Located, keys_under, unwrapped
from models.checkpoint.members import Member
from models.errors import CheckpointAmbiguous, CheckpointWithoutWeights
from models.text import listed, quoted

_MEMBERS = ("state_dict", "net_state_dict", "state_dict_backbone", "model_state_dict", "backbone", "model", "net")
_PREFIXES = (*(f"{wrapper}." for wrapper in sorted(WRAPPERS)), "model.", "backbone.", "net.")
_HEADS = ("head.", "loss.", "classifier.")  # of a network that is not known, less is certain than in `HEADS`
_MOST_PREFIXES = 8  # one in the other
_MOST_COMPARED = 8  # networks whose numbers are compared


class Selection(NamedTuple):
    """What the user says about the place of the network.

    Attributes:
        member: Dotted name of the member of the file; empty for the top level, None to find it.
        prefix: What stands before the network's keys, with or without the names of wrappers and the final dot; empty
            for no prefix, None to find it.
    """

    member: str | None = None
    prefix: str | None = None


ANYWHERE = Selection()


class Choice(NamedTuple):
    """The member that holds the network, the network in it, and whether it is a known one."""

    member: Member
    located: Located
    known: bool


def select(members: Sequence[Member], selection: Selection, locate: Locate | None) -> Choice:
    """Select a network.

    Args:
        members: The members of the file, at least one.
        selection: What the user says.
        locate: Finds the known networks among weights; None to go by the usual names of members and prefixes.

    Returns:
        The only network that `locate` finds and the user does not exclude. If there is none, what the usual names
        suggest, whose weights are then no known network.

    Raises:
        CheckpointAmbiguous: There are several networks with different weights.
        CheckpointWithoutWeights: The user's member or prefix does not exist, or no member looks like a network.
    """
    candidates = _named(members, selection.member)
    if locate is not None:
        fits = [Choice(member, located, True) for member in candidates for located in locate(member.shapes())]
        fits = _distinct(_prefixed(fits, selection.prefix))
        if len(fits) > 1:
            raise CheckpointAmbiguous(_several(fits))
        if fits:
            return fits[0]
    member = _usual_member(candidates, known=locate is not None)
    if selection.prefix is None:
        return Choice(member, _usual_part(member), known=False)
    return Choice(member, _part(member, selection.prefix), known=False)


def _named(members: Sequence[Member], name: str | None) -> Sequence[Member]:
    if name is None:
        return members
    exact = [member for member in members if member.is_at(name)]
    inside = exact or [member for member in members if member.is_inside(name)]
    if not inside:
        raise CheckpointWithoutWeights(
            f"the checkpoint has no member {quoted(name)} with weights; members with weights: "
            f"{listed(_shown_name(member) for member in members)}"
        )
    return inside


def _shown_name(member: Member) -> str:
    return member.name or '"" (the top level)'


def _prefixed(fits: list[Choice], prefix: str | None) -> list[Choice]:
    """Return the networks at a prefix, else those below it; wrappers count only if they distinguish networks."""
    if prefix is None:
        return fits
    given = _with_dot(prefix)
    plain = unwrapped(given)
    return (
        [fit for fit in fits if fit.located.prefix == given]
        or [fit for fit in fits if unwrapped(fit.located.prefix) == plain]
        or [fit for fit in fits if plain and unwrapped(fit.located.prefix).startswith(plain)]
    )


def _with_dot(prefix: str) -> str:
    return f"{prefix}." if prefix and not prefix.endswith(".") else prefix


def _distinct(fits: list[Choice]) -> list[Choice]:
    """Drop the networks that have the same numbers as one before them."""
    if len(fits) > _MOST_COMPARED:
        return fits
    distinct: list[Choice] = []
    for fit in fits:
        if not any(_same(fit, other) for other in distinct):
            distinct.append(fit)
    return distinct


def _same(one: Choice, other: Choice) -> bool:
    if one.located.keys.keys() != other.located.keys.keys():
        return False
    for name, key in one.located.keys.items():
        first, second = one.member.tensors[key], other.member.tensors[other.located.keys[name]]
        if first.element.dtype is None or first.element != second.element or first.shape != second.shape:
            return False
        if not np.array_equal(first.array(), second.array()):
            return False
    return True


def _several(fits: list[Choice]) -> str:
    names = {fit.member.name for fit in fits}
    prefixes = {fit.located.prefix for fit in fits}
    if len(names) == 1:
        shown = listed(_shown_prefix(fit.located.prefix) for fit in fits)
        return f"the file holds {len(fits)} networks, with {shown}; name one with --prefix"
    if len(prefixes) == 1:
        shown = listed(_shown_name(fit.member) for fit in fits)
        return f"the file holds {len(fits)} networks, in the members {shown}; name one with --member"
    shown = listed(f"{_shown_name(fit.member)} with {_shown_prefix(fit.located.prefix)}" for fit in fits)
    return f"the file holds {len(fits)} networks, in the members {shown}; name one with --member and --prefix"


def _shown_prefix(prefix: str) -> str:
    return f"the prefix {prefix}" if prefix else 'no prefix (--prefix "")'


def _usual_member(candidates: Sequence[Member], known: bool) -> Member:
    """Return the member that most likely holds a network of which nothing is known.

    Args:
        candidates: The members that the user does not exclude.
        known: Whether only known networks can be used, so that the choice concerns no more than an error's sentence.
    """
    if len(candidates) == 1 and not candidates[0].path:
        return candidates[0]
    usual = {member.name: member for member in candidates if len(member.path) <= 1}
    for name in (*_MEMBERS, ""):
        if name in usual:
            return _unless_doubled(usual[name], candidates, known)
    dotted = [member for member in candidates if any("." in key for key in member.tensors)]
    if not dotted:
        raise CheckpointWithoutWeights(f"the checkpoint holds no network, only {listed(m.name for m in candidates)}")
    if len(dotted) > 1 and not known:
        raise CheckpointAmbiguous(
            f"the file holds weights in the members {listed(member.name for member in dotted)}; name one with --member"
        )
    return max(dotted, key=lambda member: len(member.tensors))


def _unless_doubled(member: Member, candidates: Sequence[Member], known: bool) -> Member:
    """Refuse to choose between a member and another with the same keys, such as a moving average of its weights."""
    if not known:
        plain = {unwrapped(key) for key in member.tensors}
        doubles = [other for other in candidates if {unwrapped(key) for key in other.tensors} == plain]
        if len(doubles) > 1:
            raise CheckpointAmbiguous(
                f"the file holds {len(doubles)} networks, in the members {listed(map(_shown_name, doubles))}; "
                "name one with --member"
            )
    return member


def _usual_part(member: Member) -> Located:
    """Return the weights of a member without a training head, and without the prefixes that the others share."""
    prefix, keys = "", list(member.tensors)
    for depth in itertools.count():
        body = [key for key in keys if not key.startswith(_HEADS, len(prefix))]
        shared = next((p for p in _PREFIXES if body and all(key.startswith(p, len(prefix)) for key in body)), None)
        if shared is None or depth >= _MOST_PREFIXES:
            break
        prefix, keys = prefix + shared, body
    return Located(prefix, _names(body, prefix))


def _names(keys: list[str], prefix: str) -> dict[str, str]:
    """Return keys by their names in the network; a network that is not known may have modules with a wrapper's name."""
    try:
        return keys_under(keys, prefix)
    except CheckpointAmbiguous:
        return {key.removeprefix(prefix): key for key in keys}


def _part(member: Member, prefix: str) -> Located:
    given = _with_dot(prefix)
    keys = [key for key in member.tensors if key.startswith(given)]
    if not keys:
        plain = unwrapped(given)
        wrapped = [key for key in member.tensors if unwrapped(key).startswith(plain)]
        if not wrapped or not plain:
            beginnings = dict.fromkeys(f"{key.partition('.')[0]}." for key in member.tensors if "." in key)
            raise CheckpointWithoutWeights(
                f"no key of the checkpoint begins with {quoted(given)}; its keys begin with {listed(beginnings)}"
            )
        return Located(given, {unwrapped(key).removeprefix(plain): key for key in wrapped})
    return Located(given, _names(keys, given))
