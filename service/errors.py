"""Errors of requests and galleries, and the HTTP status of every error that a client can see.

VultusError                  base of the tree in `models.errors`, which continues here
├── RequestError             the request cannot be accepted
│   ├── HttpMalformed
│   ├── HostUntrusted
│   ├── OriginRefused
│   ├── MediaTypeUnsupported
│   ├── BodyIncomplete
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
│   ├── TooManyCandidates
│   ├── NotAcceptable
│   ├── RetryLater           the request was not processed
│   │   ├── Overloaded
│   │   ├── RateExceeded
│   │   ├── TooManyAtOnce
│   │   └── TooManyConnections
│   ├── PhotoUnreachable
│   ├── RouteUnknown
│   ├── MethodNotAllowed
│   ├── NotReady
│   └── AccessError          a key does not permit the request
│       ├── KeyMissing
│       ├── KeyMalformed
│       ├── KeyWrong
│       ├── KeyRevoked
│       ├── KeyExpired
│       ├── SeveralKeys
│       ├── KeyInQuery
│       ├── SignatureMissing
│       ├── SignatureMalformed
│       ├── SignatureExpired
│       ├── SignatureWrong
│       └── ScopeMissing
├── SecurityError            keys cannot be made or used, or acts cannot be recorded
│   ├── KeyUnknown
│   ├── KeyExists
│   ├── KeyInvalid
│   ├── ServerSecretUnfit
│   ├── EncryptionError      the galleries cannot be decrypted, or are not encrypted
│   │   ├── MasterKeyMissing
│   │   ├── MasterKeyUnfit
│   │   ├── MasterKeyWrong
│   │   ├── DataKeysUnfit
│   │   └── NotEncrypted
│   ├── AuditUnfit
│   ├── AuditOff
│   └── AuditStopped
├── BackupError              a backup cannot be made or restored
│   ├── BackupUnconfigured
│   ├── BackupInProgress
│   ├── BackupUnfit
│   ├── BackupUnknown
│   ├── BackupDamaged
│   ├── ErasuresDamaged
│   └── RestoreRefused
├── ReportError              a kept report cannot be read
│   ├── ReportUnknown
│   └── ReportDamaged
├── TakeoverFailed           what another product has cannot be taken over
└── GalleryError             an operation on a gallery failed
    ├── GalleryUnknown
    ├── SubjectUnknown
    ├── SubjectAmbiguous
    ├── TemplateUnknown
    ├── CropMissing
    ├── GalleryExists
    ├── SubjectExists
    ├── RepetitionDiffers
    ├── SubjectEmpty
    ├── SubjectFull
    ├── NameInvalid
    ├── CursorInvalid
    ├── ContractMismatch
    ├── EmbeddingWrongDimension
    ├── EmbeddingNotFinite
    ├── EmbeddingZero
    ├── DuplicateOfAnother
    ├── LineMalformed
    ├── LinesMissing
    ├── GalleriesInUse
    ├── StoreUnfit
    ├── SnapshotUnfit
    ├── StorageFull
    ├── StoreBusy
    └── StoreFailed
"""

from models import errors as core
from models.errors import VultusError


class RequestError(VultusError):
    """The request cannot be accepted."""


class HttpMalformed(RequestError):
    """The bytes on the connection are not a request in HTTP/1.1."""

    code = "http_malformed"


class HostUntrusted(RequestError):
    """The `Host` header names a host that is not trusted."""

    code = "host_untrusted"


class OriginRefused(RequestError):
    """A web page of another origin tried to change something or to use a model."""

    code = "origin_refused"


class MediaTypeUnsupported(RequestError):
    """The media type of the body, or of one of its parts, is not supported."""

    code = "media_type_unsupported"


class BodyIncomplete(RequestError):
    """The request body has fewer bytes than its head declares."""

    code = "body_incomplete"


class BodyTooLarge(RequestError):
    """The request body is larger than allowed."""

    code = "body_too_large"


class BodyTooSlow(RequestError):
    """The request body did not arrive within the time limit of the request."""

    code = "body_too_slow"


class MultipartMalformed(RequestError):
    """The body is not the multipart form that its header declares."""

    code = "multipart_malformed"


class JsonMalformed(RequestError):
    """The body is not a valid JSON object."""

    code = "json_malformed"


class Base64Malformed(RequestError):
    """An image or embedding is not valid base64."""

    code = "base64_malformed"


class MemberMissing(RequestError):
    """A required part or member is missing."""

    code = "member_missing"


class MemberUnknown(RequestError):
    """The request contains an unknown part, member or parameter."""

    code = "member_unknown"


class MemberRepeated(RequestError):
    """A part, member or parameter that may be given only once is repeated."""

    code = "member_repeated"


class MemberInvalid(RequestError):
    """A part, member, parameter or header has an invalid value."""

    code = "member_invalid"


class TooManyImages(RequestError):
    """The request contains more images than allowed."""

    code = "too_many_images"


class TooManyEmbeddings(RequestError):
    """The request contains more embeddings than allowed."""

    code = "too_many_embeddings"


class TooManyCandidates(RequestError):
    """The request asks for more candidates than one search returns in time."""

    code = "too_many_candidates"


class NotAcceptable(RequestError):
    """The response cannot be written in any form that the `Accept` header allows."""

    code = "not_acceptable"


class RetryLater(RequestError):
    """The service did not process the request; retry later.

    Attributes:
        retry_after_s: Whole seconds after which a retry should be accepted.
    """

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(RetryLater):
    """The service is overloaded and did not process the request; retry later."""

    code = "overloaded"


class RateExceeded(RetryLater):
    """The key has sent more requests than its rate allows; retry later."""

    code = "rate_exceeded"


class TooManyAtOnce(RetryLater):
    """The key has as many requests in progress as it may; retry later."""

    code = "too_many_at_once"


class PhotoUnreachable(RequestError):
    """The photo that the request names cannot be read."""

    code = "photo_unreachable"


class RouteUnknown(RequestError):
    """No resource exists at this path."""

    code = "route_unknown"


class MethodNotAllowed(RequestError):
    """The path does not support this method."""

    code = "method_not_allowed"


class NotReady(RequestError):
    """Inference does not work at the moment."""

    code = "not_ready"


class TooManyConnections(RetryLater):
    """The service has as many connections as it may; retry later."""

    code = "too_many_connections"


class AccessError(RequestError):
    """A key does not permit the request."""


class KeyMissing(AccessError):
    """The request has no key."""

    code = "key_missing"


class KeyMalformed(AccessError):
    """The request has something that is not a key."""

    code = "key_malformed"


class KeyWrong(AccessError):
    """The key of the request is not a key of this service."""

    code = "key_wrong"


class KeyRevoked(AccessError):
    """The key of the request was revoked."""

    code = "key_revoked"


class KeyExpired(AccessError):
    """The key of the request has expired."""

    code = "key_expired"


class SeveralKeys(AccessError):
    """The request has several keys."""

    code = "several_keys"


class KeyInQuery(AccessError):
    """The query of the request has a key, which servers and proxies write to their logs."""

    code = "key_in_query"


class SignatureMissing(AccessError):
    """The request is not signed."""

    code = "signature_missing"


class SignatureMalformed(AccessError):
    """The signature of the request is malformed, or does not cover what it must."""

    code = "signature_malformed"


class SignatureExpired(AccessError):
    """The request was signed too long ago, or by a clock that is wrong."""

    code = "signature_expired"


class SignatureWrong(AccessError):
    """The request was signed with another secret, or changed on the way."""

    code = "signature_wrong"


class ScopeMissing(AccessError):
    """The key of the request does not have the scope that the request requires."""

    code = "scope_missing"


class SecurityError(VultusError):
    """Keys cannot be made or used, or acts cannot be recorded."""


class KeyUnknown(SecurityError):
    """No key has this id or name."""

    code = "key_unknown"


class KeyExists(SecurityError):
    """A live key with this name already exists."""

    code = "key_exists"


class KeyInvalid(SecurityError):
    """A key cannot have such a scope, gallery, limit or lifetime."""

    code = "key_invalid"


class ServerSecretUnfit(SecurityError):
    """The server secret is missing or is not the one under which the keys were made."""

    code = "server_secret_unfit"


class EncryptionError(SecurityError):
    """The galleries cannot be decrypted, or are not encrypted."""


class MasterKeyMissing(EncryptionError):
    """The galleries are encrypted, and no master key is configured."""

    code = "master_key_missing"


class MasterKeyUnfit(EncryptionError):
    """The master key cannot be read or written, or is not a key."""

    code = "master_key_unfit"


class MasterKeyWrong(EncryptionError):
    """The galleries are encrypted under another master key."""

    code = "master_key_wrong"


class DataKeysUnfit(EncryptionError):
    """The data keys are missing, damaged, or those of other galleries."""

    code = "data_keys_unfit"


class NotEncrypted(EncryptionError):
    """A master key is configured, and the galleries are not encrypted."""

    code = "not_encrypted"


class AuditUnfit(SecurityError):
    """The audit log was altered."""

    code = "audit_unfit"


class AuditOff(SecurityError):
    """The service keeps no audit log."""

    code = "audit_off"


class AuditStopped(SecurityError):
    """The audit log cannot be written, so the operation is refused."""

    code = "audit_stopped"


class BackupError(VultusError):
    """A backup cannot be made or restored."""


class BackupUnconfigured(BackupError):
    """No directory for backups is configured."""

    code = "backup_unconfigured"


class BackupInProgress(BackupError):
    """Another backup is being made in the same directory."""

    code = "backup_in_progress"


class BackupUnfit(BackupError):
    """The directory cannot hold backups of these galleries, or a newer version wrote the backup."""

    code = "backup_unfit"


class BackupUnknown(BackupError):
    """The directory has no such backup."""

    code = "backup_unknown"


class BackupDamaged(BackupError):
    """A file of the backup is missing or altered."""

    code = "backup_damaged"


class ErasuresDamaged(BackupError):
    """A list of erasures is damaged or incomplete."""

    code = "erasures_damaged"


class RestoreRefused(BackupError):
    """The directory into which to restore has data."""

    code = "restore_refused"


class ReportError(VultusError):
    """A kept report cannot be read."""


class ReportUnknown(ReportError):
    """No kept report has this name."""

    code = "report_unknown"


class ReportDamaged(ReportError):
    """The file of the report is not one that a command has kept."""

    code = "report_damaged"


class TakeoverFailed(VultusError):
    """What another product has cannot be read."""

    code = "takeover_failed"


class GalleryError(VultusError):
    """An operation on a gallery failed."""


class GalleryUnknown(GalleryError):
    """No gallery has this name."""

    code = "gallery_unknown"


class SubjectUnknown(GalleryError):
    """The gallery has no subject with this name."""

    code = "subject_unknown"


class SubjectAmbiguous(GalleryError):
    """The names of several subjects differ from the given one in case only, and none is the same."""

    code = "subject_ambiguous"


class TemplateUnknown(GalleryError):
    """The subject has no template with this number."""

    code = "template_unknown"


class CropMissing(GalleryError):
    """The aligned crop of the template is not stored."""

    code = "crop_missing"


class GalleryExists(GalleryError):
    """A gallery with this name already exists."""

    code = "gallery_exists"


class SubjectExists(GalleryError):
    """The gallery already has a subject with this name."""

    code = "subject_exists"


class RepetitionDiffers(GalleryError):
    """A repeated request is not the one that it claims to repeat."""

    code = "repetition_differs"


class SubjectEmpty(GalleryError):
    """The subject has no templates to compare with."""

    code = "subject_empty"


class SubjectFull(GalleryError):
    """A subject would have more templates than allowed."""

    code = "subject_full"


class NameInvalid(GalleryError):
    """The name of the gallery or subject is invalid."""

    code = "name_invalid"


class CursorInvalid(GalleryError):
    """The cursor was not returned by a list operation."""

    code = "cursor_invalid"


class ContractMismatch(GalleryError):
    """The embeddings belong to different embedding contracts and cannot be compared."""

    code = "contract_mismatch"


class EmbeddingWrongDimension(GalleryError):
    """The embedding does not have the dimension of the model's embeddings."""

    code = "embedding_wrong_dimension"


class EmbeddingNotFinite(GalleryError):
    """The embedding contains NaN or infinity."""

    code = "embedding_not_finite"


class EmbeddingZero(GalleryError):
    """The embedding is zero and has no direction."""

    code = "embedding_zero"


class DuplicateOfAnother(GalleryError):
    """Another subject of the gallery already has the same image or embedding.

    Attributes:
        subject: Name of that subject. The client receives it as `duplicate_of`; the message does not contain it, so
            that it never reaches a log.
    """

    code = "duplicate_of_another"

    def __init__(self, message: str, subject: str) -> None:
        super().__init__(message)
        self.subject = subject


class LineMalformed(GalleryError):
    """A line of NDJSON is malformed."""

    code = "line_malformed"


class LinesMissing(GalleryError):
    """The body has no lines of NDJSON."""

    code = "lines_missing"


class GalleriesInUse(GalleryError):
    """Another process owns the galleries of this data directory."""

    code = "galleries_in_use"


class StoreUnfit(GalleryError):
    """The file is not a gallery store that this version can use."""

    code = "store_unfit"


class SnapshotUnfit(GalleryError):
    """The snapshot of an index cannot be used."""

    code = "snapshot_unfit"


class StorageFull(GalleryError):
    """The disk is full."""

    code = "storage_full"


class StoreBusy(GalleryError):
    """Another program has locked the gallery store."""

    code = "store_busy"


class StoreFailed(GalleryError):
    """The gallery store could not be read or written."""

    code = "store_failed"


HTTP_STATUS: dict[type[VultusError], int] = {
    core.ImageEmpty: 422,
    core.ImageUnreadable: 415,
    core.ImageEncodingUnsupported: 415,
    core.ImageSeveralPages: 422,
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
    HttpMalformed: 400,
    HostUntrusted: 421,  # RFC 9110, section 15.5.20: misdirected request
    OriginRefused: 403,
    MediaTypeUnsupported: 415,
    BodyIncomplete: 400,
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
    TooManyCandidates: 422,
    NotAcceptable: 406,
    Overloaded: 429,
    PhotoUnreachable: 422,
    RouteUnknown: 404,
    MethodNotAllowed: 405,
    NotReady: 503,
    RateExceeded: 429,
    TooManyAtOnce: 429,
    TooManyConnections: 503,
    KeyMissing: 401,
    KeyMalformed: 401,
    KeyWrong: 401,
    KeyRevoked: 401,
    KeyExpired: 401,
    SeveralKeys: 400,
    KeyInQuery: 400,
    SignatureMissing: 401,
    SignatureMalformed: 400,
    SignatureExpired: 401,
    SignatureWrong: 401,
    ScopeMissing: 403,
    KeyUnknown: 404,
    KeyExists: 409,
    KeyInvalid: 422,
    DataKeysUnfit: 500,
    AuditUnfit: 500,
    AuditOff: 409,
    AuditStopped: 503,
    BackupUnconfigured: 409,
    BackupInProgress: 409,
    BackupUnfit: 409,
    ErasuresDamaged: 500,
    ReportUnknown: 404,
    ReportDamaged: 500,
    GalleryUnknown: 404,
    SubjectUnknown: 404,
    SubjectAmbiguous: 409,
    TemplateUnknown: 404,
    CropMissing: 404,
    GalleryExists: 409,
    SubjectExists: 409,
    RepetitionDiffers: 409,
    SubjectEmpty: 409,
    SubjectFull: 409,
    NameInvalid: 422,
    CursorInvalid: 422,
    ContractMismatch: 409,
    EmbeddingWrongDimension: 422,
    EmbeddingNotFinite: 422,
    EmbeddingZero: 422,
    DuplicateOfAnother: 409,
    LineMalformed: 422,
    LinesMissing: 422,
    StorageFull: 507,
    StoreBusy: 503,
    StoreFailed: 500,
}
"""Errors that are not listed occur at start, on the command line, or after the client disconnected."""

INTERNAL_CODE = "internal_error"


def http_status(error: VultusError) -> int:
    """Return the HTTP status of an error; 500 if it is not in `HTTP_STATUS`."""
    return HTTP_STATUS.get(type(error), 500)
