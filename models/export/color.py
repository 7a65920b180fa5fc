"""Decide the colour order of a checkpoint from the file or the description beside it, and refuse to guess.

The same AdaFace network is BGR in the checkpoints of AdaFace's own repository and RGB or BGR in those of CVLFace, under
the same keys. The wrong order moves every embedding by more than four fifths of its length.
"""

from typing import NamedTuple

from models.backbones import Plan
from models.checkpoint import Checkpoint
from models.errors import ColorUnknown
from models.graph.contract import ColorOrder

_CVLFACE_PREFIX = ".net."


class Decision(NamedTuple):
    """A colour order and its source.

    Attributes:
        color: Colour order of the network's input.
        because: Source of the order, as a noun phrase for the card.
        contradiction: The user's order differs from the one that the file implies.
    """

    color: ColorOrder
    because: str
    contradiction: bool = False


def decide_color(checkpoint: Checkpoint, plan: Plan, given: ColorOrder | None) -> Decision:
    """Return the colour order that the network expects.

    Args:
        checkpoint: The checkpoint, with its wrapper and the description beside it.
        plan: The recognised network.
        given: The user's order, which takes precedence over any file; None if the user gave none.

    Raises:
        ColorUnknown: Neither the user nor the file nor the description beside it states the order.
    """
    from_file = _color_from_file(checkpoint, plan)
    if given is not None:
        if from_file is not None and from_file.color != given:
            return Decision(given, f"the user; {from_file.because} states {from_file.color} instead", True)
        return Decision(given, "the user")
    if from_file is None:
        description = f"{checkpoint.sidecar.name} beside it" if checkpoint.sidecar else "a file beside it"
        raise ColorUnknown(
            f"some projects train {plan.architecture} in RGB and others in BGR, and neither {checkpoint.path.name} "
            f"nor {description} states the order; give --color rgb or --color bgr "
            "(AdaFace's own checkpoints are BGR, those of CVLFace state it in model.yaml beside model.pt)"
        )
    return from_file


def _color_from_file(checkpoint: Checkpoint, plan: Plan) -> Decision | None:
    cvlface = f".{checkpoint.unwrapped_prefix}".endswith(_CVLFACE_PREFIX)
    if checkpoint.sidecar is not None and checkpoint.sidecar.color is not None:
        return Decision(checkpoint.sidecar.color, f"{checkpoint.sidecar.name} beside the checkpoint")
    if cvlface:
        return None
    if plan.project and plan.color is not None:
        return Decision(plan.color, f"the file layout of {plan.project}'s training ({plan.color.upper()})")
    if plan.color is not None:
        return Decision(plan.color, f"the family {plan.family}, trained in {plan.color.upper()} only")
    if plan.family == "adaface-ir" and checkpoint.adaface_form:
        return Decision("bgr", "the file layout of AdaFace's own training (BGR)")
    return None
