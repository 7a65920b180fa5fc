"""Find the network's weights in what a checkpoint file holds, and what the file's form tells beside them."""

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

_FILES = ("model.safetensors", "model.pt")  # the names in a directory as CVLFace publishes them
_SUFFIXES = (".pth", ".pt", ".ckpt", ".safetensors")
_MEMBERS = ("state_dict", "net_state_dict", "state_dict_backbone", "model_state_dict", "backbone", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "net.")
_HEADS = ("head.", "loss.", "classifier.")  # of the training, beside the network's own weights
_FRESH_STATISTICS = (20.0, 100.0)  # what AdaFace's head.py starts its buffers with


@dataclass(frozen=True, slots=True)
class Head:
    """What AdaFace's training kept of the norms it saw (Kim et al., CVPR 2022, arXiv 2204.00964).

    Attributes:
        mean, deviation: Running statistics of the feature norm; `batch_mean` and `batch_std` in the file.
        h: Concentration of the quality indicator, 0.333 unless the file's hyper-parameters say otherwise.
        fresh: The buffers are as they were before training (20 and 100), so they tell nothing.
    """

    mean: float
    deviation: float
    h: float
    fresh: bool


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """The weights of a network and what surrounds them.

    Attributes:
        path: The file.
        sha256: Of the file.
        weights: By key without any wrapper's prefix, as stored.
        member: Name of the member that held them, empty if they were the file's whole content.
        prefix: What stood before every key.
        head: AdaFace's norm statistics, if the file has them.
        stored: The same weights and those of a training head by the keys that the file has.
        adaface_form: The file is as AdaFace's own training writes it.
        sidecar: The model description beside the file, if there is one.
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
        """Describe the form for people."""
        parts = [f"member {self.member}" if self.member else "", f"prefix {self.prefix}" if self.prefix else ""]
        return ", ".join(part for part in parts if part) or "plain"

    def floating(self) -> list[NDArray[Any]]:
        """List the weights that are floating-point numbers: all but counters."""
        return [self.weights[key] for key in _floating(self.weights)]

    def weights_digest(self) -> str:
        """Return the SHA-256 over keys, shapes, dtypes and numbers: the same in every wrapper."""
        digest = hashlib.sha256()
        for key, array in sorted(self.weights.items()):
            digest.update(f"{key}|{','.join(map(str, array.shape))}|{array.dtype.name}\n".encode())
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint file, or the one in a directory of CVLFace's form.

    Args:
        path: `.pth`, `.pt`, `.ckpt` or `.safetensors`, or a directory with `model.pt` or `model.safetensors`.

    Raises:
        CheckpointUnreadable, CheckpointUnsafe, CheckpointIsModule: The file cannot be read.
        CheckpointWithoutWeights: It holds no network.
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
        raise CheckpointUnreadable(f"there is no file {path.name}")
    if path.suffix.lower() not in _SUFFIXES:
        raise CheckpointUnreadable(f"{path.name} is not named like a checkpoint ({', '.join(_SUFFIXES)})")
    return path


def _find_weights(tree: Any) -> tuple[str, Weights]:
    if not isinstance(tree, dict):
        raise CheckpointWithoutWeights("the checkpoint holds no weights by name")
    for name in _MEMBERS:
        if inner := _arrays(tree.get(name)):
            return name, inner
    if own := _arrays(tree):
        return "", own
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
    return {key: array for key, array in weights.items() if array.ndim or "." in key}  # not a lone `epoch` or `step`


def _strip(weights: Weights) -> tuple[str, Weights, Weights]:
    """Take off the prefixes that all keys share, but for those of a training head, which are set apart."""
    taken, rest = "", Weights()
    while True:
        heads = {key: value for key, value in weights.items() if key.startswith(_HEADS)}
        body = {key: value for key, value in weights.items() if key not in heads}
        prefix = next((prefix for prefix in _PREFIXES if body and all(key.startswith(prefix) for key in body)), None)
        if prefix is None:
            return taken, body, {**rest, **heads}
        taken, rest = taken + prefix, {**rest, **heads}
        weights = {key.removeprefix(prefix): value for key, value in body.items()}


def _head(rest: Weights, tree: dict[str, Any]) -> Head | None:
    try:
        mean, deviation = (float(rest[name].item()) for name in ("head.batch_mean", "head.batch_std"))
    except (KeyError, ValueError):
        return None
    if not np.isfinite([mean, deviation]).all() or deviation <= 0:
        return None  # no statistics of anything
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
