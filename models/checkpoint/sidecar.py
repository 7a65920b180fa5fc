"""The model description that CVLFace stores next to a checkpoint: `model.yaml`, or `config.json` on a model hub.

Only this description states the colour order. The same network is published for RGB and for BGR with the same keys. A
description holds for the checkpoint that it was published with, which its name tells: a checkpoint of another name in
the same directory may have the other order.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Color = Literal["rgb", "bgr"]

_STEMS = {"model.yaml": ("model",), "config.json": ("model", "pytorch_model")}  # of the checkpoints that each describes

_COLORS: dict[str, Color] = {"rgb": "rgb", "bgr": "bgr"}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The model description next to a checkpoint.

    Attributes:
        name: Name of the description's file.
        color: Order in which the network itself takes its channels, or None if the file does not state it.
    """

    name: str
    color: Color | None


def read_sidecar(checkpoint: Path) -> Sidecar | None:
    """Read the description next to a checkpoint.

    Returns:
        The description, without a colour order if the file is malformed; None if no file describes the checkpoint.
    """
    names = description_names(checkpoint.stem)
    path = next((path for path in map(checkpoint.with_name, names) if path.is_file()), None)
    return None if path is None else Sidecar(path.name, _color(path))


def description_names(stem: str) -> list[str]:
    """Return the names that the description of a checkpoint may have, given its name without suffix."""
    return list(dict.fromkeys([f"{stem}.yaml", *(name for name, stems in _STEMS.items() if stem in stems)]))


def _color(path: Path) -> Color | None:
    try:
        text = path.read_text()
        content: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except MemoryError:
        raise
    except Exception:  # constructors of YAML raise many classes for values that do not fit their tag
        return None
    if isinstance(content, dict) and isinstance(content.get("conf"), dict):
        content = content["conf"]
    color = content.get("color_space") if isinstance(content, dict) else None
    return _COLORS.get(color.lower()) if isinstance(color, str) else None
