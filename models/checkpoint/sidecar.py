"""The model description that CVLFace stores next to a checkpoint: `model.yaml`, or `config.json` on a model hub.

Only this description states the colour order. The same network is published for RGB and for BGR with the same keys.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

Color = Literal["rgb", "bgr"]

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
        The description, without a colour order if the file is malformed; None if no description exists.
    """
    for name in (f"{checkpoint.stem}.yaml", "model.yaml", "config.json"):
        path = checkpoint.with_name(name)
        if path.is_file():
            return Sidecar(name, _color(path))
    return None


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
