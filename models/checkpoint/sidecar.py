"""The model description that CVLFace puts beside a checkpoint: `model.yaml`, or `config.json` on a model hub.

It is the only place where the colour order of those files is told: the same network is published for RGB and for BGR
under the same keys.
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
    """What stands beside a checkpoint.

    Attributes:
        name: Of the file.
        color: Order in which the bare network takes its channels, or None where the file does not tell.
    """

    name: str
    color: Color | None


def read_sidecar(checkpoint: Path) -> Sidecar | None:
    """Read the description beside a checkpoint, if there is one; one that cannot be read tells nothing."""
    for name in (f"{checkpoint.stem}.yaml", "model.yaml", "config.json"):
        path = checkpoint.with_name(name)
        if path.is_file():
            return Sidecar(name, _color(path))
    return None


def _color(path: Path) -> Color | None:
    try:
        text = path.read_text()
        content: Any = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None
    if isinstance(content, dict) and isinstance(content.get("conf"), dict):
        content = content["conf"]
    word = content.get("color_space") if isinstance(content, dict) else None
    return _COLORS.get(word.lower()) if isinstance(word, str) else None
