"""CompreFace's responses: members without a value are left out, numbers have five decimals."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from fastapi import Response

from models.deadline import Deadline
from models.detection import Face
from models.pipeline import EmbeddedFace
from models.serving.models import Models
from service.api.backend import server_timing
from service.compat.compreface.intake import FaceOptions
from service.compat.compreface.similarity import SimilarityMap

SIMILARITY_HEADER = "X-Vultus-Similarity"

_DECIMALS = 1e5


def rounded(number: float) -> float:
    """Return a number with five decimals; halves are rounded up."""
    return math.floor(number * _DECIMALS + 0.5) / _DECIMALS


def json_answer(
    content: Any, deadline: Deadline | None = None, similarity: SimilarityMap | None = None, status: int = 200
) -> Response:
    """Return a JSON response.

    Args:
        content: What to write.
        deadline: Deadline of the request, whose stage times are a header.
        similarity: Map of the similarities in the answer, whose name is a header.
        status: HTTP status.
    """
    headers = {} if deadline is None else server_timing(deadline)
    if similarity is not None:
        headers[SIMILARITY_HEADER] = similarity.name
    return Response(orjson.dumps(content), status, headers, "application/json")


def box_of(face: Face, size: tuple[int, int]) -> dict[str, float]:
    """Return the box of a face in whole pixels of the upright photo of `size` (width, height)."""
    width, height = size
    x1, y1, x2, y2 = (round(float(value)) for value in face.box)
    return {
        "probability": rounded(face.score),
        "x_max": min(width, max(0, x2)),
        "y_max": min(height, max(0, y2)),
        "x_min": min(width, max(0, x1)),
        "y_min": min(height, max(0, y1)),
    }


def face_members(
    face: Face, size: tuple[int, int], options: FaceOptions, deadline: Deadline, embedded: EmbeddedFace | None = None
) -> dict[str, Any]:
    """Return what is said of a face: its box, and what the options ask for.

    Age, gender, mask and pose are left out, as by a CompreFace without these plugins.
    """
    members: dict[str, Any] = {"box": box_of(face, size)}
    if options.wants("landmarks"):
        members["landmarks"] = [[round(float(x)), round(float(y))] for x, y in face.landmarks]
    if embedded is not None and options.wants("calculator"):
        members["embedding"] = embedded.embedding.tolist()
    if options.status:
        members["execution_time"] = execution_time(deadline)
    return members


def execution_time(deadline: Deadline) -> dict[str, float]:
    """Return the milliseconds of the plugins."""
    spent = deadline.stage_ms
    stages = {"detector": ("detect",), "calculator": ("align", "embed")}
    return {
        plugin: rounded(sum(spent.get(stage, 0.0) for stage in names))
        for plugin, names in stages.items()
        if any(stage in spent for stage in names)
    }


def versions(models: Models, options: FaceOptions) -> dict[str, Any]:
    """Return the member `plugins_versions` of an answer, if the options ask for it."""
    if not options.status:
        return {}
    return {"plugins_versions": {"detector": models.detector.family, "calculator": models.recognizer.name}}


def matches(similarities: Iterable[tuple[str, float]]) -> list[dict[str, Any]]:
    """Return subjects with their similarities."""
    return [{"subject": subject, "similarity": rounded(value)} for subject, value in similarities]


def page_members(faces: Sequence[Mapping[str, str]], page: int, size: int, total: int) -> dict[str, Any]:
    """Return a page of a list."""
    return {
        "faces": faces,
        "page_number": page,
        "page_size": size,
        "total_pages": -(-total // size),
        "total_elements": total,
    }
