"""Find the weights of the network in a checkpoint file, and collect the metadata that the file's form provides."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artefact.digests import file_digest
from models.checkpoint.containers import read_tree
from models.checkpoint.sidecar import Sidecar, read_sidecar
from models.checkpoint.unpickling import TensorRecord
from models.errors import CheckpointUnreadable, CheckpointWithoutWeights, WeightsNotFinite

Weights = dict[str, NDArray[Any]]

_FILES = ("model.safetensors", "model.pt")  # the names in directories that CVLFace publishes
_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
_MEMBERS = ("state_dict", "net_state_dict", "state_dict_backbone", "model_state_dict", "backbone", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
_HEADS = ("head.", "loss.", "classifier.")  # prefixes of the training head, stored with the network's weights
_FRESH_STATISTICS = (20.0, 100.0)  # the initial values of the buffers in AdaFace's head.py


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
        weights: The stored weights, by key without the wrapper's prefix.
        member: Name of the member that holds the weights; empty if they are the top level of the file.
        prefix: The removed prefix of every key.
        head: AdaFace's norm statistics, or None if the file has none.
        stored: The weights of the network and of a training head, by the keys in the file.
        adaface_form: Whether the file has the form that AdaFace's training writes.
        sidecar: The model description next to the file, or None.
    """

    path: Path
    sha256: str
    weights: Weights
    member: str
    prefix: str
    head: Head | None
    stored: Weights
    adaface_form: bool
    sidecar: Sidecar | None

    @property
    def wrapper(self) -> str:
        """A description of the file's form for display: its member and prefix, or `plain`."""
        parts = [f"member {self.member}" if self.member else "", f"prefix {self.prefix}" if self.prefix else ""]
        return ", ".join(part for part in parts if part) or "plain"

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


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the checkpoint in a directory of CVLFace's form.

    Args:
        path: A `.pth`, `.pt`, `.ckpt` or `.safetensors` file, or a directory with `model.safetensors` or `model.pt`.

    Raises:
        CheckpointUnreadable: The file is missing, is not a checkpoint, or is truncated or corrupt.
        CheckpointUnsafe: The file calls code.
        CheckpointIsModule: The file is a pickled module or a TorchScript archive.
        CheckpointWithoutWeights: The file holds no network.
        WeightsNotFinite: A weight is NaN or infinite.
    """
    path = _file(path)
    tree = read_tree(path)
    member, found = _find_weights(tree)
    prefix, weights, rest = _strip(found)
    _refuse_non_finite(weights)
    return Checkpoint(
        path=path,
        sha256=file_digest(path),
        weights=weights,
        member=member,
        prefix=prefix,
        head=_head(rest, tree),
        stored=found,
        adaface_form=member == "state_dict" and prefix == "model." and "head.kernel" in rest,
        sidecar=read_sidecar(path),
    )


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in _FILES if (path / name).is_file()]
        if not found:
            raise CheckpointUnreadable(f"the directory {path.name} holds neither {' nor '.join(_FILES)}")
        return found[0]
    if not path.is_file():
        raise CheckpointUnreadable(f"file {path.name} does not exist")
    if path.suffix.lower() not in _SUFFIXES:
        raise CheckpointUnreadable(f"{path.name} does not have a checkpoint suffix ({', '.join(_SUFFIXES)})")
    return path


def _find_weights(tree: Any) -> tuple[str, Weights]:
    if not isinstance(tree, dict):
        raise CheckpointWithoutWeights("the checkpoint does not hold named weights")
    for name in _MEMBERS:
        if inner := _arrays(tree.get(name)):
            return name, inner
    if top_level := _arrays(tree):
        return "", top_level
    members = ", ".join(sorted(str(key) for key in tree)[:8]) or "nothing"
    raise CheckpointWithoutWeights(f"the checkpoint holds no network, only {members}")


def _arrays(tree: Any) -> Weights:
    if not isinstance(tree, dict):
        return {}
    found = {key: value for key, value in tree.items() if isinstance(key, str)}
    weights = {
        key: value.array() if isinstance(value, TensorRecord) else value
        for key, value in found.items()
        if isinstance(value, TensorRecord | np.ndarray)
    }
    return {key: array for key, array in weights.items() if array.ndim or "." in key}  # not a scalar `epoch` or `step`


def _strip(weights: Weights) -> tuple[str, Weights, Weights]:
    """Separate the weights of a training head, and remove the prefixes that all other keys share.

    Returns:
        The removed prefix, the weights of the network without it, and the weights of a training head.
    """
    removed, rest = "", Weights()
    while True:
        heads = {key: value for key, value in weights.items() if key.startswith(_HEADS)}
        body = {key: value for key, value in weights.items() if key not in heads}
        prefix = next((prefix for prefix in _PREFIXES if body and all(key.startswith(prefix) for key in body)), None)
        if prefix is None:
            return removed, body, {**rest, **heads}
        removed, rest = removed + prefix, {**rest, **heads}
        weights = {key.removeprefix(prefix): value for key, value in body.items()}


def _head(rest: Weights, tree: dict[str, Any]) -> Head | None:
    try:
        mean, deviation = (float(rest[name].item()) for name in ("head.batch_mean", "head.batch_std"))
    except (KeyError, ValueError):
        return None
    if not np.isfinite([mean, deviation]).all() or deviation <= 0:
        return None  # not valid statistics
    training = tree.get("hyper_parameters")
    h = training.get("h", 0.333) if isinstance(training, dict) else 0.333
    return Head(mean, deviation, float(h) if isinstance(h, int | float) else 0.333, _is_fresh(mean, deviation))


def _is_fresh(mean: float, deviation: float) -> bool:
    return (mean, deviation) == _FRESH_STATISTICS


def _refuse_non_finite(weights: Weights) -> None:
    for key in _floating(weights):
        if not np.isfinite(weights[key]).all():
            raise WeightsNotFinite(f"the weight {key} holds NaN or infinite numbers")


def _floating(weights: Weights) -> Iterable[str]:
    return (key for key, array in weights.items() if array.dtype.kind in "fV" or array.dtype.name == "bfloat16")
