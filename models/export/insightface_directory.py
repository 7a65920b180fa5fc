"""The detector and the recognizer among InsightFace's files, told apart by their inputs and outputs.

Preprocessing follows insightface's own loaders (`model_zoo/arcface_onnx.py`, `model_zoo/scrfd.py`, version 2.1): both
networks get RGB. A recognizer whose first nodes subtract and multiply by itself gets bytes, any other (pixel - 127.5) /
127.5; SCRFD gets (pixel - 127.5) / 128.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import onnx

from models.artefact.digests import file_digest
from models.detection import SCRFD, STRIDES
from models.errors import GraphUnsupported
from models.export.onnx_file import read_onnx
from models.packs.manifest import NOT_STATED, DirectorySource, Manifest, Source, make_manifest

INSIGHTFACE_LICENCE = "non-commercial research only (InsightFace)"

_TEMPLATE, _SIDE = "arcface-112", 112
_PUBLISHED = re.compile(r"(buffalo_(l|m|s|sc)|antelopev2)")
_HEAD_NODES = 8  # in which insightface looks for preprocessing
_SCRFD_WIDTHS = (1,) * len(STRIDES) + (4,) * len(STRIDES) + (10,) * len(STRIDES)  # scores, boxes, landmarks
_MIN_DIMENSIONS = 64  # attribute networks have fewer outputs

Role = Literal["detector", "recognizer"]

_EXPECTED: dict[Role, str] = {
    "detector": "a SCRFD network with nine outputs: scores, boxes and landmarks of three strides",
    "recognizer": f"a network from {_SIDE} x {_SIDE} pixels to one embedding",
}


class PublishedFile(NamedTuple):
    """A file to read, and the source from which it can be fetched again."""

    path: Path
    source: Source


class Found(NamedTuple):
    """What a directory has.

    Attributes:
        manifest: Manifest of the pack, with a detector, a recognizer, or both.
        passed_over: Names of its files that are neither, such as networks of landmarks and attributes.
    """

    manifest: Manifest
    passed_over: tuple[str, ...]


class Wanted(NamedTuple):
    """What the user states about a pack.

    Attributes:
        name: Name of the pack; None for that of the directory.
        licence: Licence of the weights; None for that of InsightFace if the directory has the name of a published pack,
            otherwise `NOT_STATED`.
        detector: Name of the file of the detector; required if there are several.
        recognizer: Name of the file of the recognizer; required if there are several.
    """

    name: str | None = None
    licence: str | None = None
    detector: str | None = None
    recognizer: str | None = None


NOTHING_STATED = Wanted()


def read_directory(directory: Path, wanted: Wanted = NOTHING_STATED) -> Found:
    """Describe the models of a directory as a pack.

    Args:
        directory: Directory with ONNX files.
        wanted: What the user states.

    Raises:
        GraphUnsupported: The directory cannot be read, has neither detector nor recognizer, or has several of them.
        ManifestInvalid: The name is not that of a pack.
    """
    paths = sorted(directory.glob("*.onnx")) if directory.is_dir() else []
    if not paths:
        raise GraphUnsupported(f"{directory} is not a directory with ONNX files")
    source = DirectorySource(directory=directory.resolve())
    files = {path.name: PublishedFile(path, source) for path in paths}
    return read_files(files, str(directory), directory.resolve().name, wanted)


def read_files(files: Mapping[str, PublishedFile], place: str, title: str, wanted: Wanted = NOTHING_STATED) -> Found:
    """Describe the models among published files as a pack.

    Args:
        files: The files by their names in the pack.
        place: Where they are, for messages.
        title: Name of the directory or repository that they were published in.
        wanted: What the user states.

    Raises:
        GraphUnsupported: A file cannot be read, there is neither detector nor recognizer, or several of them.
        ManifestInvalid: The name is not that of a pack.
    """
    graphs = {name: read_onnx(file.path) for name, file in files.items()}
    roles = {name: _role(graph) for name, graph in graphs.items()}
    detector = _chosen(roles, "detector", wanted.detector, place)
    recognizer = _chosen(roles, "recognizer", wanted.recognizer, place)
    if detector is None and recognizer is None:
        expected = " nor ".join(f"a {role}, which is {expected}" for role, expected in _EXPECTED.items())
        raise GraphUnsupported(f"{place} has neither {expected}")
    pack = (wanted.name or title).lower()
    licence = wanted.licence or (INSIGHTFACE_LICENCE if _PUBLISHED.fullmatch(title) else NOT_STATED)
    used = [name for name in (detector, recognizer) if name]
    kinds = [f"{name} ({kind})" for name, kind in ((detector, "SCRFD"), (recognizer, "ArcFace")) if name]
    members: dict[str, Any] = {
        "name": pack,
        "summary": f"{' and '.join(kinds)} of {title}",
        "kind": "models",
        "files": [
            {"name": name, "sha256": file_digest(files[name].path), "sources": [files[name].source]} for name in used
        ],
    }
    if detector:
        members["detector"] = _detector_entry(detector, licence)
    if recognizer:
        members["recognizer"] = _recognizer_entry(recognizer, pack, licence, _scales_itself(graphs[recognizer]))
    manifest = make_manifest(members, f"{place} (its name becomes that of the pack unless --name gives another)")
    return Found(manifest, tuple(name for name in graphs if name not in used))


def _detector_entry(file: str, licence: str) -> dict[str, Any]:
    return {
        "family": SCRFD.family,
        "file": file,
        "licence": licence,
        "color": "rgb",
        "mean": 127.5,
        "std": 128.0,
    }


def _recognizer_entry(file: str, pack: str, licence: str, scales_itself: bool) -> dict[str, Any]:
    return {
        "name": f"{pack}-{Path(file).stem}".lower(),
        "family": "arcface",
        "architecture": NOT_STATED,
        "template": _TEMPLATE,
        "file": file,
        "licence": licence,
        "color": "rgb",
        "mean": 0.0 if scales_itself else 127.5,
        "std": 1.0 if scales_itself else 127.5,
    }


def _chosen(roles: dict[str, Role | None], role: Role, wanted: str | None, place: str) -> str | None:
    """Return the file of a role, None if there is none and the user wants none by name."""
    candidates = [file for file, found in roles.items() if found == role]
    if wanted is not None:
        if wanted not in candidates:
            raise GraphUnsupported(f"{wanted} is not a {role} in {place}; it has: {', '.join(candidates) or 'none'}")
        return wanted
    if len(candidates) > 1:
        raise GraphUnsupported(f"{place} has several {role}s: {', '.join(candidates)}; name one with --{role}")
    return next(iter(candidates), None)


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
