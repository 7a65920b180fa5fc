"""The errors that operations have in common, for the OpenAPI document."""

from models import errors as core
from service import errors

INTAKE_ERRORS = (
    errors.MediaTypeUnsupported,
    errors.BodyTooLarge,
    errors.MultipartMalformed,
    errors.JsonMalformed,
    errors.Base64Malformed,
    errors.MemberMissing,
    errors.MemberUnknown,
    errors.MemberRepeated,
    errors.MemberInvalid,
)
"""Of a request whose body is read."""

IMAGE_ERRORS = (
    core.ImageEmpty,
    core.ImageUnreadable,
    core.ImageDamaged,
    core.ImageTooManyBytes,
    core.ImageTooManyPixels,
    core.ImageTooSmall,
    core.NoFace,
    core.SeveralFaces,
    core.DegenerateLandmarks,
    core.InferenceFailed,
)
"""Of a photo in which faces are detected."""

EMBEDDING_ERRORS = (
    errors.EmbeddingWrongDimension,
    errors.EmbeddingNotFinite,
    errors.EmbeddingZero,
    errors.ContractMismatch,
)
"""Of an embedding that a client sends."""

GATE_ERRORS = (
    core.FaceTooSmall,
    core.LowQuality,
    core.ExtremePose,
    core.CutOff,
    core.CalibrationUnfit,
    core.QualityUnvalidated,
)
"""Of a face that is held to a minimum quality or to reasons for refusal."""

LOAD_ERRORS = (
    errors.BodyTooSlow,
    errors.Overloaded,
    core.EngineStopped,
    core.DeadlineExceeded,
)
"""Of a request that waits for inference."""

STORE_ERRORS = (errors.StorageFull, errors.StoreFailed)
"""Of a request that changes galleries."""

BODY_ERRORS = (
    *(error for error in INTAKE_ERRORS if error is not errors.MultipartMalformed),
    *(error for error in LOAD_ERRORS if error is not core.DeadlineExceeded),
)
"""Of a request with a JSON body that does no inference."""
