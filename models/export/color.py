"""Decide the colour order by what the file or its neighbour says, or not at all.

The same AdaFace network is BGR in the checkpoints of AdaFace's own repository and RGB or BGR in those of CVLFace, under
the same keys; the wrong one moves every embedding by more than four fifths of its length.
"""

from typing import NamedTuple

from models.backbones import Plan
from models.checkpoint import Checkpoint
from models.errors import ColorUnknown
from models.graph.contract import ColorOrder

_CVLFACE_PREFIX = "net."


class Decision(NamedTuple):
    """The colour order and what told it."""

    color: ColorOrder
    because: str
    contradiction: bool = False


def decide_color(checkpoint: Checkpoint, plan: Plan, given: ColorOrder | None) -> Decision:
    """Find the order in which the network takes its channels.

    Args:
        checkpoint: With its wrapper and the description beside it.
        plan: What was recognised.
        given: What the user says; it counts more than any file.

    Raises:
        ColorUnknown: Nothing tells.
    """
    told = _told(checkpoint, plan)
    if given is not None:
        if told is not None and told.color != given:
            return Decision(given, f"its user, against {told.because}, which says {told.color}", True)
        return Decision(given, "its user")
    if told is None:
        silent = f"{checkpoint.sidecar.name} beside it" if checkpoint.sidecar else "a file beside it"
        raise ColorUnknown(
            f"{plan.architecture} is trained in RGB by some and in BGR by others, and neither {checkpoint.path.name} "
            f"nor {silent} says which; say it with --color rgb or --color bgr "
            "(AdaFace's own checkpoints are BGR, those of CVLFace say it in model.yaml)"
        )
    return told


def _told(checkpoint: Checkpoint, plan: Plan) -> Decision | None:
    cvlface = checkpoint.prefix.endswith(_CVLFACE_PREFIX)
    beside = cvlface or checkpoint.path.stem == "model"  # another file's neighbour says nothing of this one
    if beside and checkpoint.sidecar is not None and checkpoint.sidecar.color is not None:
        return Decision(checkpoint.sidecar.color, f"{checkpoint.sidecar.name} beside the checkpoint")
    if cvlface:
        return None
    if plan.color is not None:
        return Decision(plan.color, f"the family {plan.family}, whose projects train in {plan.color.upper()} only")
    if plan.family == "adaface-ir" and checkpoint.adaface_form:
        return Decision("bgr", "the form of the file, which is that of AdaFace's own training in BGR")
    return None
