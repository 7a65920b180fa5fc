"""Find the weights of the network in a checkpoint file, and collect the metadata that the file's form provides."""

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artefact.digests import file_digest
from models.checkpoint.containers import MOST_EXPANSION, read_tree
from models.checkpoint.elements import is_floating
from models.checkpoint.keys import HEADS, WRAPPERS, Locate, unwrapped
from models.checkpoint.members import Member, members_of
from models.checkpoint.selection import ANYWHERE, Selection, select
from models.checkpoint.sidecar import Sidecar, read_sidecar
from models.checkpoint.tensors import Tensor
from models.errors import CheckpointUnreadable, CheckpointWithoutWeights, WeightsNotFinite, WeightTypeUnsupported
from models.text import listed, quoted

Weights = dict[str, NDArray[Any]]

CHECKPOINT_NAMES = ("model.safetensors", "model.pt", "pytorch_model.bin")
"""The names of checkpoints in directories of CVLFace and of model hubs."""

_FRESH_STATISTICS = (20.0, 100.0)  # the initial values of the buffers in AdaFace's head.py
_MAX_OTHERS = 100  # members that are described
_SMALL_BYTES = 2**20  # weights that are never too many for their file
_STATISTICS = ("head.batch_mean", "head.batch_std")


@dataclass(frozen=True, slots=True)
class Head:
    """The statistics of norms that AdaFace records in training (Kim et al., CVPR 2022, arXiv 2204.00964).

    Attributes:
        mean, deviation: Running statistics of the norm; `batch_mean` and `batch_std` in the file.
        h: Concentration of the quality indicator; 0.333 unless the file's hyper-parameters state another value.
        fresh: Whether the buffers still have their initial values (20 and 100), so that they hold no statistics.
    """

    mean: float
    deviation: float
    h: float
    fresh: bool


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The weights of a network and their metadata.

    Attributes:
        path: Path of the file.
        sha256: SHA-256 of the file.
        weights: The weights of the network, by key without prefix and without the names of wrappers.
        member: Dotted name of the member that holds the weights; empty if they are the top level of the file.
        prefix: What stands before every key of the network in the file, with the names of wrappers.
        wrappers: Names of wrappers that were taken away behind the prefix.
        beside: Shapes of the member's other weights, by the keys in the file; the network does not use them.
        others: Names of other members with weights.
        head: AdaFace's norm statistics, or None if the file has none.
        stored: The weights of the network and those beside it that the user does not exclude, by the keys in the file.
        adaface_form: Whether the file has the form that AdaFace's training writes.
        sidecar: The model description next to the file, or None.
    """

    path: Path
    sha256: str
    weights: Weights
    member: str
    prefix: str
    wrappers: tuple[str, ...]
    beside: Mapping[str, tuple[int, ...]]
    others: tuple[str, ...]
    head: Head | None
    stored: Weights
    adaface_form: bool
    sidecar: Sidecar | None

    @property
    def wrapper(self) -> str:
        """A description of the file's form for display: member, prefix and wrappers, or `plain`."""
        parts = [
            f"member {quoted(self.member)}" if self.member else "",
            f"prefix {quoted(self.prefix)}" if self.prefix else "",
            f"wrappers {', '.join(self.wrappers)}" if self.wrappers else "",
        ]
        return ", ".join(part for part in parts if part) or "plain"

    @property
    def unwrapped_prefix(self) -> str:
        """The prefix without the names of wrappers."""
        return unwrapped(self.prefix)

    def unexpected(self) -> list[str]:
        """Return the keys beside the network whose names are not those of usual training heads."""
        return [key for key in self.beside if not HEADS & set(unwrapped(key).split(".")[:-1])]

    def floating(self) -> list[NDArray[Any]]:
        """Return the floating-point weights, which are all except counters."""
        return [self.weights[key] for key in _floating(self.weights)]

    def weights_digest(self) -> str:
        """Return the SHA-256 of keys, shapes, dtypes and values, which does not depend on the wrapper."""
        digest = hashlib.sha256()
        for key, array in sorted(self.weights.items()):
            digest.update(f"{key}|{','.join(map(str, array.shape))}|{array.dtype.name}\n".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def read_checkpoint(path: Path, selection: Selection = ANYWHERE, locate: Locate | None = None) -> Checkpoint:
    """Read a checkpoint file, or the checkpoint in a directory of CVLFace's form.

    Args:
        path: A file of PyTorch, safetensors or numpy, of any name, or a directory with one of a usual name.
        selection: What the user says about the place of the network in the file.
        locate: Finds the known networks among weights, such as `models.backbones.locate`; None to go by the usual names
            of members and prefixes.

    Raises:
        CheckpointUnreadable: The file is missing, is not a checkpoint, or is truncated or corrupt.
        CheckpointUnsafe: The file calls code.
        CheckpointIsModule: The file is a pickled module or a TorchScript archive.
        CheckpointWithoutWeights: The file holds no network, or not at the place that the user names.
        CheckpointAmbiguous: The file holds several networks.
        WeightTypeUnsupported: A weight is of a type that is not read, or one of a known network is not floating-point.
        WeightsNotFinite: A weight is NaN or infinite.
    """
    path = _file(path)
    tree = read_tree(path)
    members = members_of(tree)
    if not members:
        raise CheckpointWithoutWeights(_without_weights(tree))
    choice = select(members, selection, locate)
    member, (prefix, keys), known = choice
    _refuse_expansion(member, path)
    weights = _weights(member, keys, floating_only=known)
    _refuse_non_finite(weights)
    network = set(keys.values())
    beside = {key: tensor for key, tensor in member.tensors.items() if key not in network}
    usable = {key: tensor for key, tensor in beside.items() if tensor.element.dtype is not None}
    if selection.prefix is not None:
        usable = {key: tensor for key, tensor in usable.items() if key.startswith(prefix)}
    inner = {part for name, key in keys.items() if len(key) - len(prefix) > len(name) for part in key.split(".")}
    return Checkpoint(
        path=path,
        sha256=file_digest(path),
        weights=weights,
        member=member.name,
        prefix=prefix,
        wrappers=tuple(sorted(inner & WRAPPERS - set(prefix.split(".")))),
        beside={key: tensor.shape for key, tensor in beside.items()},
        others=tuple(other.name for other in members[:_MAX_OTHERS] if other is not member),
        head=_head(beside, prefix, tree),
        stored={**{keys[name]: array for name, array in weights.items()}, **_arrays(usable)},
        adaface_form=member.name == "state_dict"
        and unwrapped(prefix) == "model."
        and any(unwrapped(key) == "head.kernel" for key in beside),
        sidecar=read_sidecar(path),
    )


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in CHECKPOINT_NAMES if (path / name).is_file()]
        if not found and (path / ".metadata").is_file():
            raise CheckpointUnreadable(
                f"the directory {path.name} is a distributed checkpoint; join it into one file with: "
                f"python -m torch.distributed.checkpoint.format_utils dcp_to_torch {path.name} model.pt"
            )
        if not found:
            raise CheckpointUnreadable(f"the directory {path.name} holds neither {' nor '.join(CHECKPOINT_NAMES)}")
        return found[0]
    if not path.is_file():
        raise CheckpointUnreadable(f"file {path.name} does not exist")
    return path


def _without_weights(tree: Any) -> str:
    if not isinstance(tree, dict):
        return "the checkpoint does not hold named weights"
    return f"the checkpoint holds no network, only {listed(sorted(map(str, tree))) or 'nothing'}"


def _weights(member: Member, keys: Mapping[str, str], floating_only: bool) -> Weights:
    """Return the weights of the network by their names in it.

    Args:
        member: The member that holds them.
        keys: Their keys in the file by their names in the network.
        floating_only: Refuse integers, except in the counters of batch-norms; no known network has others.
    """
    for name, key in keys.items():
        element = member.tensors[key].element
        counter = name.endswith(".num_batches_tracked")
        if element.dtype is None or (floating_only and not element.is_float and not counter):
            raise WeightTypeUnsupported(
                f"the weight {quoted(key)} is stored as {element.name}, which is not read; "
                "save the weights in a floating-point type, such as float32 or float16"
            )
    return {name: member.tensors[key].array() for name, key in keys.items()}


def _refuse_expansion(member: Member, path: Path) -> None:
    """Refuse weights that are many times as large as their file, before any is read: one block may be named often.

    Raises:
        CheckpointUnreadable: The shapes describe far more bytes than the file has.
    """
    stated = sum(math.prod(tensor.shape) * tensor.element.itemsize for tensor in member.tensors.values())
    if stated > MOST_EXPANSION * path.stat().st_size + _SMALL_BYTES:
        raise CheckpointUnreadable("the checkpoint describes weights that are many times as large as the file")


def _arrays(tensors: Mapping[str, Tensor]) -> Weights:
    return {key: tensor.array() for key, tensor in tensors.items()}


def _head(beside: Mapping[str, Tensor], prefix: str, tree: Any) -> Head | None:
    """Return AdaFace's norm statistics, which lie beside the network or beside a module around it."""
    around = unwrapped(prefix)
    found = {
        name: tensor
        for key, tensor in beside.items()
        for name in _STATISTICS
        if key.endswith(name) and around.startswith(unwrapped(key).removesuffix(name))
    }
    try:
        mean, deviation = (float(found[name].array().item()) for name in _STATISTICS)
    except (KeyError, TypeError, ValueError):
        return None
    if not np.isfinite([mean, deviation]).all() or deviation <= 0:
        return None  # not valid statistics
    training = tree.get("hyper_parameters") if isinstance(tree, dict) else None
    h = training.get("h", 0.333) if isinstance(training, dict) else 0.333
    usable = isinstance(h, int | float) and 0 < h <= 1  # 0.333 in the paper; also refuses NaN
    return Head(mean, deviation, float(h) if usable else 0.333, _is_fresh(mean, deviation))


def _is_fresh(mean: float, deviation: float) -> bool:
    return (mean, deviation) == _FRESH_STATISTICS


def _refuse_non_finite(weights: Weights) -> None:
    for key in _floating(weights):
        if not np.isfinite(weights[key]).all():
            raise WeightsNotFinite(f"the weight {quoted(key)} holds NaN or infinite numbers")


def _floating(weights: Weights) -> Iterable[str]:
    return (key for key, array in weights.items() if is_floating(array.dtype))
