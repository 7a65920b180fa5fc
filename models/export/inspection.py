"""Describe a checkpoint without exporting it."""

from pathlib import Path
from typing import Any

from models.backbones import recognise
from models.checkpoint import Checkpoint, read_checkpoint
from models.errors import ColorUnknown
from models.export.color import decide_color
from models.graph.contract import ColorOrder


def inspect_checkpoint(path: Path, color: ColorOrder | None = None) -> dict[str, Any]:
    """Read a checkpoint, recognise its network and describe both.

    Args:
        path: A file or directory that `read_checkpoint` accepts.
        color: The user's colour order; None if the user gave none.

    Returns:
        A description that can be written as JSON. If the colour order is unknown, `color` is None and `color from`
        holds the reason.

    Raises:
        ExportError: The file cannot be read safely, holds no valid weights or holds an unknown network; the subclass
            names the cause.
    """
    checkpoint = read_checkpoint(path)
    plan = recognise({key: array.shape for key, array in checkpoint.weights.items()})
    try:
        order, because, _ = decide_color(checkpoint, plan, color)
    except ColorUnknown as error:
        order, because = None, str(error)
    floats = checkpoint.floating()
    return {
        "kind": "checkpoint",
        "file": checkpoint.path.name,
        "sha256": checkpoint.sha256,
        "form": checkpoint.wrapper,
        "family": plan.family,
        "architecture": plan.architecture,
        "parameters": sum(array.size for array in floats),
        "stored as": sorted({array.dtype.name for array in floats}),
        "template": plan.template,
        "color": order,
        "color from": because,
        "mean": plan.mean,
        "std": plan.std,
        "norm statistics": _statistics(checkpoint),
    }


def _statistics(checkpoint: Checkpoint) -> dict[str, float] | str | None:
    head = checkpoint.head
    if head is None:
        return None
    if head.fresh:
        return "none: the buffers hold their values from before training (20 and 100)"
    return {"mean": head.mean, "deviation": head.deviation, "h": head.h}
