"""The keys of weights: the names of wrappers in them, and the prefixes in front of them."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from models.errors import CheckpointAmbiguous
from models.text import quoted

Shapes = Mapping[str, tuple[int, ...]]

WRAPPERS = frozenset(
    {
        "_checkpoint_wrapped_module",  # activation checkpointing
        "_forward_module",  # Lightning Fabric
        "_fpw_module",  # FSDP before PyTorch 2.0
        "_fsdp_wrapped_module",
        "_module",  # Opacus
        "_orig_mod",  # torch.compile
        "module",  # DataParallel, DistributedDataParallel, AveragedModel
    }
)
"""Components that a wrapper around a module adds to its keys. A module may be wrapped alone, so they occur anywhere."""

HEADS = frozenset(
    {
        *("head", "heads", "header", "loss", "loss_fn", "criterion", "classifier", "classification", "logits"),
        *(
            "arcface",
            "arc_face",
            "arc_head",
            "cosface",
            "adaface",
            "magface",
            "margin",
            "margin_softmax",
            "margin_loss",
        ),
        *("metric", "metric_fc", "partial_fc", "softmax_fc", "product", "center_loss", "centers"),
    }
)
"""First components of the keys of heads that are used in training only; no known network has them."""


class Located(NamedTuple):
    """A network among the weights of a file.

    Attributes:
        prefix: What stands before all of its keys in the file, with the names of wrappers.
        keys: The key in the file by the key in the network.
    """

    prefix: str
    keys: dict[str, str]


Locate = Callable[[Shapes], Sequence[Located]]
"""Returns the networks among weights, whose shapes are given by the keys in the file."""


def unwrapped(key: str) -> str:
    """Return a key, or a prefix with its final dot, without the names of wrappers."""
    if "module" not in key and "_orig_mod" not in key:
        return key
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def keys_under(keys: Iterable[str], prefix: str) -> dict[str, str]:
    """Return the keys below a prefix by what remains of them without it and without the names of wrappers.

    Raises:
        CheckpointAmbiguous: Two keys differ in the names of wrappers only.
    """
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(prefix):
            other = found.setdefault(unwrapped(key[len(prefix) :]), key)
            if other is not key:
                raise CheckpointAmbiguous(
                    f"{quoted(other)} and {quoted(key)} are the same weight once the names of wrappers are taken away; "
                    "save the state_dict of one network alone"
                )
    return found


def locate_named(prefix: str, names: Collection[str], keys: Iterable[str]) -> list[Located]:
    """Return the weights of given names below a prefix, as the only network, or nothing if one is missing.

    A key that has its name at once precedes one with the name of a wrapper in front, which is of another network.

    Args:
        prefix: What stands before the keys of the network in the file.
        names: Names of weights in the network.
        keys: All keys in the file.
    """
    found: dict[str, str] = {}
    for key in keys:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            name = unwrapped(rest)
            if name in names and (name not in found or rest.partition(".")[0] not in WRAPPERS):
                found[name] = key
    return [Located(prefix, found)] if len(found) == len(names) else []
