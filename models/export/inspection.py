"""Describe a checkpoint without exporting it."""

from pathlib import Path
from typing import Any

from models.checkpoint import ANYWHERE, Checkpoint, Selection
from models.errors import ColorUnknown
from models.export.color import decide_color
from models.export.recognition import observations, read_known
from models.graph.contract import ColorOrder
from models.text import quoted

_MAX_LISTED = 50  # weights and members beside the network


def inspect_checkpoint(path: Path, color: ColorOrder | None = None, selection: Selection = ANYWHERE) -> dict[str, Any]:
    """Read a checkpoint, recognise its network and describe both.

    Args:
        path: A file or directory that `read_checkpoint` accepts.
        color: The user's colour order; None if the user gave none.
        selection: What the user says about the place of the network in the file.

    Returns:
        A description that can be written as JSON. If the colour order is unknown, `color` is None and `color from`
        holds the reason.

    Raises:
        ExportError: The file cannot be read safely, holds no valid weights or holds an unknown network; the subclass
            names the cause.
    """
    checkpoint, plan = read_known(path, selection)
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
        "passed over": _passed_over(checkpoint),
        "other members": [quoted(name) for name in checkpoint.others[:_MAX_LISTED]],
        "notes": observations(checkpoint, plan),
    }


def _passed_over(checkpoint: Checkpoint) -> list[str]:
    """Return the weights beside the network with their sizes, and a count of those beyond a limit."""
    entries = list(checkpoint.beside.items())
    shown = [f"{quoted(key)} {'x'.join(map(str, shape)) or 'a single number'}" for key, shape in entries[:_MAX_LISTED]]
    return [*shown, f"and {len(entries) - _MAX_LISTED} more"] if len(entries) > _MAX_LISTED else shown


def _statistics(checkpoint: Checkpoint) -> dict[str, float] | str | None:
    head = checkpoint.head
    if head is None:
        return None
    if head.fresh:
        return "none: the buffers hold their values from before training (20 and 100)"
    return {"mean": head.mean, "deviation": head.deviation, "h": head.h}
