"""Errors as CompreFace writes them: `{"message": ..., "code": ...}`, with the codes of its `CommonExceptionCode`."""

from collections.abc import Mapping, MutableMapping
from typing import Any

from fastapi.responses import JSONResponse

from models import errors as core
from models.errors import VultusError
from service import errors
from service.api.problems import note_error
from service.api.request_id import HEADER
from service.api.request_state import REQUEST_ID
from service.errors import RetryLater, http_status

_BAD_REQUEST, _INTERNAL = 400, 500

_CODES: Mapping[type[VultusError], tuple[int, int]] = {
    errors.KeyMissing: (400, 20),
    errors.KeyMalformed: (400, 26),
    errors.SeveralKeys: (400, 26),
    errors.AccessError: (404, 10),
    core.ImageError: (400, 21),
    errors.Base64Malformed: (400, 21),
    errors.MultipartMalformed: (400, 34),
    errors.JsonMalformed: (400, 26),
    errors.MediaTypeUnsupported: (400, 21),
    core.NoFace: (400, 28),
    core.SeveralFaces: (400, 31),
    errors.SubjectUnknown: (404, 42),
    errors.SubjectExists: (400, 43),
    errors.TemplateUnknown: (404, 44),
    errors.CropMissing: (404, 11),
    errors.EmbeddingWrongDimension: (400, 37),
    errors.EmbeddingNotFinite: (400, 37),
    errors.EmbeddingZero: (400, 37),
    errors.NameInvalid: (400, 26),
    errors.MemberInvalid: (400, 26),
    errors.MemberMissing: (400, 33),
    errors.GalleryUnknown: (404, 10),
}
"""Status and code by class of error; that of the nearest class above an error counts."""

_MESSAGES: Mapping[type[VultusError], str] = {
    core.NoFace: "No face is found in the given image",
    core.SeveralFaces: "Found more than one face in the given image",
    errors.KeyMissing: "Missing header: x-api-key",
    errors.KeyMalformed: "Service API key should be UUID",
}
"""Sentences on which clients match."""

_CODES_OF_PARTS: Mapping[str, int] = {"file": 34, "source_image": 34, "target_image": 34, "prediction_count": 36}
"""Codes of errors that name such a part of a request."""

_UNDEFINED, _FAILED = 0, 41


def error_response(error: VultusError, state: MutableMapping[str, Any], message: str | None = None) -> JSONResponse:
    """Return the response for an error.

    Args:
        error: The error.
        state: State of the request, in which the code of the error is noted.
        message: Sentence instead of that of the error.
    """
    note_error(error, state)
    status, code = _status_and_code(error)
    message = message or _MESSAGES.get(type(error)) or str(error)
    headers = {HEADER: state[REQUEST_ID]}
    if isinstance(error, RetryLater):
        headers["Retry-After"] = str(error.retry_after_s)
    return JSONResponse({"message": _sendable(message), "code": code}, status, headers)


def internal_error_response(state: MutableMapping[str, Any]) -> JSONResponse:
    """Return the response for a fault of the program, whose cause is in the log."""
    message = "Something went wrong, please try again"
    return JSONResponse({"message": message, "code": _FAILED}, _INTERNAL, {HEADER: state[REQUEST_ID]})


def _status_and_code(error: VultusError) -> tuple[int, int]:
    part = error.part if isinstance(error, errors.MemberInvalid | errors.MemberMissing) else None
    if part is not None and part in _CODES_OF_PARTS:
        return _BAD_REQUEST, _CODES_OF_PARTS[part]
    for kind in type(error).__mro__:
        if kind in _CODES:
            return _CODES[kind]
    status = http_status(error)
    return status, _FAILED if status >= _INTERNAL else _UNDEFINED


def _sendable(text: str) -> str:
    """Replace unpaired surrogates, which a request may contain and UTF-8 cannot encode."""
    return text.encode("utf-8", "replace").decode()
