"""Read a checkpoint and recognise its network, with the preprocessing of the project that trained it."""

from pathlib import Path

import numpy as np

from models.backbones import Plan, iresnet, locate, recognise
from models.checkpoint import Checkpoint, Selection, read_checkpoint
from models.checkpoint.keys import unwrapped
from models.text import listed, quoted

Preprocess = float | tuple[float, float, float]

_MAGFACE_PREFIX = "features."


def read_known(path: Path, selection: Selection) -> tuple[Checkpoint, Plan]:
    """Read the checkpoint of a known network, wherever in the file it is.

    Args:
        path: A file or directory that `read_checkpoint` accepts.
        selection: What the user says about the place of the network in the file.

    Returns:
        The checkpoint and the plan of its network.

    Raises:
        ExportError: The file cannot be read safely, or holds no known network or several; the subclass names the
            cause.
    """
    checkpoint = read_checkpoint(path, selection, locate)
    plan = recognise({key: array.shape for key, array in checkpoint.weights.items()})
    return checkpoint, iresnet.magface(plan) if _is_of_magface(checkpoint, plan) else plan


def as_stated(plan: Plan, color: str | None, mean: Preprocess | None, std: Preprocess | None) -> Plan:
    """Return MagFace's network if the user states the preprocessing of MagFace, else the plan itself.

    MagFace's epsilon (2e-5 in every batch-norm of its `models/iresnet.py`) belongs to its weights whether the file has
    the head of the training or not. No other project trains this layout on BGR divided by 255.
    """
    if plan.family != "iresnet" or plan.project or color != "bgr" or mean is None or std is None:
        return plan
    return iresnet.magface(plan) if np.all(np.equal(mean, 0)) and np.all(np.equal(std, 255)) else plan


def observations(checkpoint: Checkpoint, plan: Plan) -> list[str]:
    """Return sentences about what the file holds besides the network, and about what its form leaves open."""
    said = []
    if unexpected := checkpoint.unexpected():
        place = f"under the prefix {quoted(checkpoint.prefix)}" if checkpoint.prefix else "at the top level"
        said.append(f"the network {place} was taken; the file also holds {listed(unexpected, 5)}")
    if _may_be_of_magface(checkpoint, plan) and not plan.project:
        said.append(
            "MagFace trains networks of this form in BGR, with other scaling; "
            "if it trained this one, give --color bgr --mean 0 --std 255"
        )
    return said


def _may_be_of_magface(checkpoint: Checkpoint, plan: Plan) -> bool:
    return plan.family == "iresnet" and checkpoint.unwrapped_prefix == _MAGFACE_PREFIX


def _is_of_magface(checkpoint: Checkpoint, plan: Plan) -> bool:
    """Return whether the file has a head of MagFace's training, a matrix with a row for each embedding number."""
    if not _may_be_of_magface(checkpoint, plan):
        return False
    dimensions = len(checkpoint.weights["features.bias"])
    heads = {unwrapped(key): shape for key, shape in checkpoint.beside.items()}
    shape = heads.get("fc.weight", ())
    return "parallel_fc.weight" in heads or (len(shape) == 2 and shape[0] == dimensions != shape[1])
