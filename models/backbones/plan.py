"""The description of a network before it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
Family = Literal["iresnet", "adaface-ir", "mobilefacenet", "vit", "own"]
Color = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A network identified by the keys and shapes of its weights.

    Attributes:
        family: Layout of the keys.
        architecture: Name of the network within the family.
        build: Builds the module in training mode, with weights that still have to be loaded.
        template: Alignment template of the crops.
        color: Colour order if all projects that train this layout use the same. None if several orders are in use; the
            form of the file or the user must then state it.
        mean, std: The network expects `(pixel - mean) / std` of pixels in 0..255.
        project: The project whose training made the weights if the form of the file shows it, and its training differs
            from that of the others; empty otherwise.
    """

    family: Family
    architecture: str
    build: Callable[[], nn.Module]
    template: str = "arcface-112"
    color: Color | None = None
    mean: float | tuple[float, float, float] = 127.5
    std: float | tuple[float, float, float] = 127.5
    project: str = ""


def count(shapes: Shapes, pattern: str) -> int:
    """Count the consecutive numbers from 0 that yield an existing key in `pattern`, such as `layer1.{}.bn1.weight`."""
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number
