"""What can go wrong in a request, and the HTTP status of every error that a client can see.

VultusError                  the tree of `models.errors`, and
└── RequestError             the request cannot be understood
    ├── MediaTypeUnsupported
    ├── BodyTooLarge
    ├── MultipartMalformed
    ├── JsonMalformed
    ├── Base64Malformed
    ├── MemberMissing
    ├── MemberUnknown
    ├── MemberRepeated
    ├── MemberInvalid
    ├── TooManyImages
    ├── RouteUnknown
    ├── MethodNotAllowed
    └── NotReady
"""

from models import errors as core
from models.errors import VultusError


class RequestError(VultusError):
    """The request cannot be understood."""


class MediaTypeUnsupported(RequestError):
    """The body, or a part of it, is of a media type that is not taken here."""

    code = "media_type_unsupported"


class BodyTooLarge(RequestError):
    """The body is larger than allowed."""

    code = "body_too_large"


class MultipartMalformed(RequestError):
    """The body is not the multipart form that its header announces."""

    code = "multipart_malformed"


class JsonMalformed(RequestError):
    """The body is not JSON."""

    code = "json_malformed"


class Base64Malformed(RequestError):
    """An image in JSON is not base64."""

    code = "base64_malformed"


class MemberMissing(RequestError):
    """A part or member that is needed is not there."""

    code = "member_missing"


class MemberUnknown(RequestError):
    """There is a part, member or parameter that does not exist."""

    code = "member_unknown"


class MemberRepeated(RequestError):
    """A part that may be given once is given several times."""

    code = "member_repeated"


class MemberInvalid(RequestError):
    """A part, member or parameter has a value that cannot be used."""

    code = "member_invalid"


class TooManyImages(RequestError):
    """The request has more images than allowed."""

    code = "too_many_images"


class RouteUnknown(RequestError):
    """There is nothing at this path."""

    code = "route_unknown"


class MethodNotAllowed(RequestError):
    """The path does not take this method."""

    code = "method_not_allowed"


class NotReady(RequestError):
    """Inference does not work at the moment."""

    code = "not_ready"


STATUS: dict[type[VultusError], int] = {
    core.ImageEmpty: 422,
    core.ImageUnreadable: 415,
    core.ImageDamaged: 422,
    core.ImageTooManyBytes: 413,
    core.ImageTooManyPixels: 413,
    core.ImageTooSmall: 422,
    core.NoFace: 422,
    core.SeveralFaces: 422,
    core.DegenerateLandmarks: 422,
    core.OperatingPointUnknown: 422,
    core.CalibrationUnfit: 409,
    core.InferenceFailed: 500,
    MediaTypeUnsupported: 415,
    BodyTooLarge: 413,
    MultipartMalformed: 400,
    JsonMalformed: 400,
    Base64Malformed: 422,
    MemberMissing: 422,
    MemberUnknown: 422,
    MemberRepeated: 422,
    MemberInvalid: 422,
    TooManyImages: 422,
    RouteUnknown: 404,
    MethodNotAllowed: 405,
    NotReady: 503,
}
"""Errors that are not listed happen at start or on the command line; a client would see them as 500."""

INTERNAL_CODE = "internal_error"


def status_of(error: VultusError) -> int:
    """Return the HTTP status of an error."""
    return STATUS.get(type(error), 500)
