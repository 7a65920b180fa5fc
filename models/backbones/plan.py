"""What is known of a network before it is built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

Shapes = Mapping[str, tuple[int, ...]]
Family = Literal["iresnet", "adaface-ir", "mobilefacenet", "vit", "own"]
Color = Literal["rgb", "bgr"]


@dataclass(frozen=True, slots=True)
class Plan:
    """A network read off the keys and shapes of its weights.

    Attributes:
        family: Layout of the keys.
        architecture: Which member of the family.
        build: Makes the module, with weights of no meaning, in training mode.
        template: Alignment template of the crops.
        color: The colour order of the only project that trains this layout; None where several orders are in use, so
            that the file's own form or its user must tell.
        mean, std: `(pixel - mean) / std` of 0..255 values is what the network sees.
    """

    family: Family
    architecture: str
    build: Callable[[], nn.Module]
    template: str = "arcface-112"
    color: Color | None = None
    mean: float | tuple[float, float, float] = 127.5
    std: float | tuple[float, float, float] = 127.5


def count(shapes: Shapes, pattern: str) -> int:
    """Count how many numbers from 0 on have a key when put into `pattern`, such as `layer1.{}.bn1.weight`."""
    number = 0
    while pattern.format(number) in shapes:
        number += 1
    return number
