"""What can go wrong in a request, and the HTTP status of every error that a client can see.

VultusError                  the tree of `models.errors`, and
├── RequestError             the request cannot be understood
│   ├── MediaTypeUnsupported
│   ├── BodyTooLarge
│   ├── BodyTooSlow
│   ├── MultipartMalformed
│   ├── JsonMalformed
│   ├── Base64Malformed
│   ├── MemberMissing
│   ├── MemberUnknown
│   ├── MemberRepeated
│   ├── MemberInvalid
│   ├── TooManyImages
│   ├── TooManyEmbeddings
│   ├── NotAcceptable
│   ├── Overloaded
│   ├── RouteUnknown
│   ├── MethodNotAllowed
│   └── NotReady
└── GalleryError             galleries cannot do what is asked
    ├── GalleryUnknown
    ├── SubjectUnknown
    ├── TemplateUnknown
    ├── GalleryExists
    ├── SubjectExists
    ├── SubjectEmpty
    ├── NameInvalid
    ├── CursorInvalid
    ├── ContractMismatch
    ├── EmbeddingWrongDimension
    ├── EmbeddingNotFinite
    ├── EmbeddingZero
    ├── DuplicateOfAnother
    ├── LineMalformed
    ├── GalleriesInUse
    ├── StoreUnfit
    ├── SnapshotUnfit
    ├── StorageFull
    └── StoreFailed
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


class BodyTooSlow(RequestError):
    """The body did not come within the time for the whole request."""

    code = "body_too_slow"


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


class TooManyEmbeddings(RequestError):
    """The request has more embeddings than allowed."""

    code = "too_many_embeddings"


class NotAcceptable(RequestError):
    """The answer cannot be had in any of the forms that are accepted."""

    code = "not_acceptable"


class Overloaded(RequestError):
    """More requests came than can be dealt with; nothing was done, try again.

    Attributes:
        retry_after_s: Whole seconds after which there should be room.
    """

    code = "overloaded"

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RouteUnknown(RequestError):
    """There is nothing at this path."""

    code = "route_unknown"


class MethodNotAllowed(RequestError):
    """The path does not take this method."""

    code = "method_not_allowed"


class NotReady(RequestError):
    """Inference does not work at the moment."""

    code = "not_ready"


class GalleryError(VultusError):
    """Galleries cannot do what is asked."""


class GalleryUnknown(GalleryError):
    """There is no gallery of that name."""

    code = "gallery_unknown"


class SubjectUnknown(GalleryError):
    """The gallery has no subject of that name."""

    code = "subject_unknown"


class TemplateUnknown(GalleryError):
    """The subject has no template of that number."""

    code = "template_unknown"


class GalleryExists(GalleryError):
    """There is a gallery of that name already."""

    code = "gallery_exists"


class SubjectExists(GalleryError):
    """The gallery has a subject of that name already."""

    code = "subject_exists"


class SubjectEmpty(GalleryError):
    """The subject has no templates to compare with."""

    code = "subject_empty"


class NameInvalid(GalleryError):
    """A gallery or subject cannot have that name."""

    code = "name_invalid"


class CursorInvalid(GalleryError):
    """The cursor is none that a list gave."""

    code = "cursor_invalid"


class ContractMismatch(GalleryError):
    """Embeddings of different contracts would have to be compared."""

    code = "contract_mismatch"


class EmbeddingWrongDimension(GalleryError):
    """The embedding is longer or shorter than those of the model."""

    code = "embedding_wrong_dimension"


class EmbeddingNotFinite(GalleryError):
    """The embedding holds NaN or infinity."""

    code = "embedding_not_finite"


class EmbeddingZero(GalleryError):
    """The embedding is zero and points nowhere."""

    code = "embedding_zero"


class DuplicateOfAnother(GalleryError):
    """Another subject of the gallery has the same image or embedding.

    Attributes:
        subject: Its name; told to the client, and in no sentence, so that no log has it.
    """

    code = "duplicate_of_another"

    def __init__(self, message: str, subject: str) -> None:
        super().__init__(message)
        self.subject = subject


class LineMalformed(GalleryError):
    """A line of NDJSON cannot be used."""

    code = "line_malformed"


class GalleriesInUse(GalleryError):
    """Another process has the galleries of this data directory."""

    code = "galleries_in_use"


class StoreUnfit(GalleryError):
    """The file is not a store of galleries that this version can use."""

    code = "store_unfit"


class SnapshotUnfit(GalleryError):
    """The snapshot of an index cannot be used."""

    code = "snapshot_unfit"


class StorageFull(GalleryError):
    """The disk is full."""

    code = "storage_full"


class StoreFailed(GalleryError):
    """The file system refused a read or write of the galleries."""

    code = "store_failed"


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
    core.FaceTooSmall: 422,
    core.LowQuality: 422,
    core.ExtremePose: 422,
    core.CutOff: 422,
    core.OperatingPointUnknown: 422,
    core.CalibrationUnfit: 409,
    core.QualityUnvalidated: 409,
    core.InferenceFailed: 500,
    core.EngineStopped: 503,
    core.DeadlineExceeded: 504,
    MediaTypeUnsupported: 415,
    BodyTooLarge: 413,
    BodyTooSlow: 408,
    MultipartMalformed: 400,
    JsonMalformed: 400,
    Base64Malformed: 422,
    MemberMissing: 422,
    MemberUnknown: 422,
    MemberRepeated: 422,
    MemberInvalid: 422,
    TooManyImages: 422,
    TooManyEmbeddings: 422,
    NotAcceptable: 406,
    Overloaded: 429,
    RouteUnknown: 404,
    MethodNotAllowed: 405,
    NotReady: 503,
    GalleryUnknown: 404,
    SubjectUnknown: 404,
    TemplateUnknown: 404,
    GalleryExists: 409,
    SubjectExists: 409,
    SubjectEmpty: 409,
    NameInvalid: 422,
    CursorInvalid: 422,
    ContractMismatch: 409,
    EmbeddingWrongDimension: 422,
    EmbeddingNotFinite: 422,
    EmbeddingZero: 422,
    DuplicateOfAnother: 409,
    LineMalformed: 422,
    StorageFull: 507,
    StoreFailed: 500,
}
"""Errors that are not listed happen at start, on the command line, or when nobody is there to see them."""

INTERNAL_CODE = "internal_error"


def status_of(error: VultusError) -> int:
    """Return the HTTP status of an error."""
    return STATUS.get(type(error), 500)
