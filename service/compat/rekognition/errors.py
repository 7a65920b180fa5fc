"""Errors as Amazon Rekognition writes them: `{"__type": ..., "message": ...}`, with the types that SDKs know."""

from collections.abc import Mapping, MutableMapping
from typing import Any

import orjson
from starlette.responses import Response

from models import errors as core
from models.errors import VultusError
from service import errors
from service.api.problems import note_error
from service.api.request_id import HEADER
from service.api.request_state import REQUEST_ID
from service.errors import http_status

MEDIA_TYPE = "application/x-amz-json-1.1"

NO_FACES = "There are no faces in the image. Should be at least 1."
"""Sentence on which clients match."""

_BAD_REQUEST, _INTERNAL = 400, 500
_INTERNAL_TYPE = "InternalServerError"
_INVALID = "InvalidParameterException"

_TYPES: Mapping[type[VultusError], str] = {
    errors.SignatureMissing: "MissingAuthenticationTokenException",
    errors.SignatureMalformed: "IncompleteSignatureException",
    errors.SignatureExpired: "InvalidSignatureException",
    errors.SignatureWrong: "InvalidSignatureException",
    errors.ScopeMissing: "AccessDeniedException",
    errors.AccessError: "UnrecognizedClientException",
    errors.RouteUnknown: "UnknownOperationException",
    errors.JsonMalformed: "SerializationException",
    errors.RetryLater: "ThrottlingException",
    errors.BodyTooSlow: "ThrottlingException",  # of what fits, the one that all SDKs try again
    errors.Overloaded: "ProvisionedThroughputExceededException",
    errors.BodyTooLarge: "ImageTooLargeException",
    errors.GalleryUnknown: "ResourceNotFoundException",
    errors.SubjectUnknown: "ResourceNotFoundException",
    errors.TemplateUnknown: _INVALID,  # the collection exists, and the id of the face is a wrong parameter
    errors.GalleryExists: "ResourceAlreadyExistsException",
    errors.SubjectExists: "ConflictException",
    errors.RepetitionDiffers: "IdempotentParameterMismatchException",
    errors.SubjectFull: "ServiceQuotaExceededException",
    errors.CursorInvalid: "InvalidPaginationTokenException",
    errors.PhotoUnreachable: "InvalidS3ObjectException",
    core.ImageTooManyBytes: "ImageTooLargeException",
    core.ImageTooManyPixels: "ImageTooLargeException",
    core.ImageError: "InvalidImageFormatException",
}
"""Type by class of error; that of the nearest class above an error counts."""

_MESSAGES: Mapping[type[VultusError], str] = {
    core.NoFace: NO_FACES,
    errors.GalleryUnknown: "The collection does not exist.",
    errors.GalleryExists: "A collection with this id already exists.",
    errors.SubjectUnknown: "The user does not exist.",
    errors.SubjectExists: "A user with this id already exists.",
    errors.KeyWrong: "The security token included in the request is invalid.",
    errors.KeyMalformed: "The security token included in the request is invalid.",
}
"""Sentences on which clients match."""


def error_response(error: VultusError, state: MutableMapping[str, Any]) -> Response:
    """Return the response for an error.

    Args:
        error: The error.
        state: State of the request, in which the code of the error is noted.
    """
    note_error(error, state)
    kind = next((_TYPES[kind] for kind in type(error).__mro__ if kind in _TYPES), None)
    if kind is None:
        kind = _INTERNAL_TYPE if http_status(error) >= _INTERNAL else _INVALID
    message = _MESSAGES.get(type(error)) or str(error)
    response = _response(kind, message, state)
    if isinstance(error, errors.BodyTooSlow):  # otherwise the connection stays open for the rest of the body
        response.headers["Connection"] = "close"
    return response


def internal_error_response(state: MutableMapping[str, Any]) -> Response:
    """Return the response for a fault of the program, whose cause is in the log."""
    return _response(_INTERNAL_TYPE, "an internal error occurred; the log contains the cause", state)


def _response(kind: str, message: str, state: MutableMapping[str, Any]) -> Response:
    content = {"__type": kind, "message": message.encode("utf-8", "replace").decode()}
    headers = {HEADER: state[REQUEST_ID], "x-amzn-RequestId": state[REQUEST_ID], "x-amzn-ErrorType": kind}
    status = _INTERNAL if kind == _INTERNAL_TYPE else _BAD_REQUEST
    return Response(orjson.dumps(content), status, headers, MEDIA_TYPE)
