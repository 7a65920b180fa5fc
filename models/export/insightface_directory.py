"""The detector and the recognizer in a directory of InsightFace's models, told apart by their inputs and outputs.

Preprocessing follows insightface's own loaders (`model_zoo/arcface_onnx.py`, `model_zoo/scrfd.py`, version 2.1): both
networks get RGB. A recognizer whose first nodes subtract and multiply by itself gets bytes, any other (pixel - 127.5) /
127.5; SCRFD gets (pixel - 127.5) / 128.
"""

import re
from pathlib import Path
from typing import Literal, NamedTuple

import onnx

from models.artefact.digests import file_digest
from models.detection import SCRFD, STRIDES
from models.errors import GraphUnsupported
from models.export.onnx_file import read_onnx
from models.packs.manifest import NOT_STATED, Manifest, make_manifest

INSIGHTFACE_LICENCE = "non-commercial research only (InsightFace)"

_TEMPLATE, _SIDE = "arcface-112", 112
_PUBLISHED = re.compile(r"(buffalo_(l|m|s|sc)|antelopev2)")
_HEAD_NODES = 8  # in which insightface looks for preprocessing
_SCRFD_WIDTHS = (1,) * len(STRIDES) + (4,) * len(STRIDES) + (10,) * len(STRIDES)  # scores, boxes, landmarks
_MIN_DIMENSIONS = 64  # attribute networks have fewer outputs

Role = Literal["detector", "recognizer"]


class Found(NamedTuple):
    """What a directory has.

    Attributes:
        manifest: Manifest of the pack.
        passed_over: Names of its files that are neither, such as networks of landmarks and attributes.
    """

    manifest: Manifest
    passed_over: tuple[str, ...]


def read_directory(
    directory: Path,
    name: str | None = None,
    licence: str | None = None,
    detector: str | None = None,
    recognizer: str | None = None,
) -> Found:
    """Describe the models of a directory as a pack.

    Args:
        directory: Directory with ONNX files.
        name: Name of the pack; None for that of the directory.
        licence: Licence of the weights; None for that of InsightFace if the directory has the name of a published pack,
            otherwise `NOT_STATED`.
        detector: Name of the file of the detector; required if there are several.
        recognizer: Name of the file of the recognizer; required if there are several.

    Raises:
        GraphUnsupported: The directory cannot be read, or has no detector, no recognizer, or several of them.
        ManifestInvalid: The name is not that of a pack.
    """
    paths = sorted(directory.glob("*.onnx")) if directory.is_dir() else []
    if not paths:
        raise GraphUnsupported(f"{directory} is not a directory with ONNX files")
    graphs = {path.name: read_onnx(path) for path in paths}
    roles = {file: _role(graph) for file, graph in graphs.items()}
    found_detector = _chosen(roles, "detector", detector, directory)
    found_recognizer = _chosen(roles, "recognizer", recognizer, directory)
    stated = licence or (INSIGHTFACE_LICENCE if _PUBLISHED.fullmatch(directory.resolve().name) else NOT_STATED)
    scale = 1.0 if _scales_itself(graphs[found_recognizer]) else 127.5
    pack = (name or directory.resolve().name).lower()
    manifest = make_manifest(
        {
            "name": pack,
            "summary": f"{found_detector} (SCRFD) and {found_recognizer} (ArcFace) of {directory.resolve().name}",
            "kind": "models",
            "detector": {
                "family": SCRFD.family,
                "file": found_detector,
                "licence": stated,
                "color": "rgb",
                "mean": 127.5,
                "std": 128.0,
            },
            "recognizer": {
                "name": f"{pack}-{Path(found_recognizer).stem}".lower(),
                "family": "arcface",
                "architecture": NOT_STATED,
                "template": _TEMPLATE,
                "file": found_recognizer,
                "licence": stated,
                "color": "rgb",
                "mean": 0.0 if scale == 1.0 else scale,
                "std": scale,
            },
            "files": [
                {
                    "name": file,
                    "sha256": file_digest(directory / file),
                    "sources": [{"directory": directory.resolve()}],
                }
                for file in (found_detector, found_recognizer)
            ],
        },
        f"{directory} (its name becomes that of the pack unless --name gives another)",
    )
    return Found(manifest, tuple(file for file in graphs if file not in (found_detector, found_recognizer)))


def _chosen(roles: dict[str, Role | None], role: Role, wanted: str | None, directory: Path) -> str:
    candidates = [file for file, found in roles.items() if found == role]
    if wanted is not None:
        if wanted not in candidates:
            raise GraphUnsupported(
                f"{wanted} is not a {role} in {directory}; it has: {', '.join(candidates) or 'none'}"
            )
        return wanted
    if not candidates:
        expected = (
            "a SCRFD network with nine outputs: scores, boxes and landmarks of three strides"
            if role == "detector"
            else f"a network from {_SIDE} x {_SIDE} pixels to one embedding"
        )
        raise GraphUnsupported(f"{directory} has no {role}, which is {expected}")
    if len(candidates) > 1:
        raise GraphUnsupported(f"{directory} has several {role}s: {', '.join(candidates)}; name one with --{role}")
    return candidates[0]


def _role(model: onnx.ModelProto) -> Role | None:
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [_shape(value) for value in model.graph.input if value.name not in weights]
    outputs = [_shape(value) for value in model.graph.output]
    if len(inputs) != 1 or len(inputs[0]) != 4 or inputs[0][1] != 3:
        return None
    if tuple(shape[-1] if shape else None for shape in outputs) == _SCRFD_WIDTHS:
        return "detector"
    embeds = len(outputs) == 1 and len(outputs[0]) == 2 and (outputs[0][1] or 0) >= _MIN_DIMENSIONS
    return "recognizer" if embeds and inputs[0][2:] == [_SIDE, _SIDE] else None


def _shape(value: onnx.ValueInfoProto) -> list[int | None]:
    """Return the length of each axis; None where the graph leaves it open."""
    return [axis.dim_value or None for axis in value.type.tensor_type.shape.dim]


def _scales_itself(model: onnx.ModelProto) -> bool:
    head = [node.name for node in model.graph.node[:_HEAD_NODES]]
    return any(name.startswith(("Sub", "_minus")) for name in head) and any(
        name.startswith(("Mul", "_mul")) for name in head
    )
