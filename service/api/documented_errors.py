"""Groups of errors that several operations document in the OpenAPI document."""

from models import errors as core
from service import errors

INTAKE_ERRORS = (
    errors.MediaTypeUnsupported,
    errors.BodyIncomplete,
    errors.BodyTooLarge,
    errors.MultipartMalformed,
    errors.JsonMalformed,
    errors.Base64Malformed,
    errors.MemberMissing,
    errors.MemberUnknown,
    errors.MemberRepeated,
    errors.MemberInvalid,
)
"""Errors of reading a request body."""

IMAGE_ERRORS = (
    core.ImageEmpty,
    core.ImageUnreadable,
    core.ImageEncodingUnsupported,
    core.ImageSeveralPages,
    core.ImageDamaged,
    core.ImageTooManyBytes,
    core.ImageTooManyPixels,
    core.ImageTooSmall,
    core.NoFace,
    core.SeveralFaces,
    core.DegenerateLandmarks,
    core.InferenceFailed,
)
"""Errors of a photo in which faces are detected."""

EMBEDDING_ERRORS = (
    errors.EmbeddingWrongDimension,
    errors.EmbeddingNotFinite,
    errors.EmbeddingZero,
    errors.ContractMismatch,
)
"""Errors of an embedding that a client sends."""

GATE_ERRORS = (
    core.FaceTooSmall,
    core.LowQuality,
    core.ExtremePose,
    core.CutOff,
    core.CalibrationUnfit,
    core.QualityUnvalidated,
)
"""Errors of a face that must pass a gate: a minimum quality, or reasons for refusal."""

LOAD_ERRORS = (
    errors.BodyTooSlow,
    errors.Overloaded,
    core.EngineStopped,
    core.DeadlineExceeded,
)
"""Errors of a request that waits for inference."""

STORE_ERRORS = (
    errors.AuditStopped,
    errors.StorageFull,
    errors.StoreBusy,
    errors.StoreFailed,
    core.DeadlineExceeded,
    core.EngineStopped,
)
"""Errors of a request that changes galleries."""

BODY_ERRORS = (
    *(error for error in INTAKE_ERRORS if error is not errors.MultipartMalformed),
    *(error for error in LOAD_ERRORS if error is not core.DeadlineExceeded),
)
"""Errors of a request that has a JSON body and needs no inference."""
