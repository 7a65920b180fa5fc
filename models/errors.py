"""What can go wrong in the inference core, one class for each cause.

VultusError
├── ImageError               the picture cannot be used
│   ├── ImageEmpty
│   ├── ImageUnreadable
│   ├── ImageDamaged
│   ├── ImageTooManyBytes
│   ├── ImageTooManyPixels
│   └── ImageTooSmall
├── FaceError                the picture is fine, its faces are not
│   ├── NoFace
│   ├── SeveralFaces
│   └── DegenerateLandmarks
├── DecisionError            no decision can be made of the similarity
│   ├── OperatingPointUnknown
│   └── CalibrationUnfit
├── ModelFilesError          what should be served cannot be
│   ├── PackUnknown
│   ├── ManifestInvalid
│   ├── PackMissing
│   ├── PackDamaged
│   ├── SourceUnavailable
│   ├── ArtefactUnfit
│   └── StorageFailed
└── EngineError              the machine cannot run it
    ├── EngineMissing
    ├── EngineConflict
    ├── PrecisionUnsupported
    └── InferenceFailed

Messages are sentences for the person who sent the input; they never hold pixels, embeddings or names of people.
"""

from typing import ClassVar


class VultusError(Exception):
    """Base of all errors that Vultus raises on purpose.

    Attributes:
        code: Stable, machine-readable; part of the interface.
        part: The part of the input that is meant, where there are several.
    """

    code: ClassVar[str]
    part: str | None = None


class ImageError(VultusError):
    """The picture cannot be used."""


class ImageEmpty(ImageError):
    """No bytes were sent."""

    code = "image_empty"


class ImageUnreadable(ImageError):
    """The bytes are not a picture of a format that is read here."""

    code = "image_unreadable"


class ImageDamaged(ImageError):
    """The header is that of a picture; the rest is cut off or broken."""

    code = "image_damaged"


class ImageTooManyBytes(ImageError):
    """The encoded picture is larger than allowed."""

    code = "image_too_many_bytes"


class ImageTooManyPixels(ImageError):
    """The header announces more pixels than allowed; nothing was decoded."""

    code = "image_too_many_pixels"


class ImageTooSmall(ImageError):
    """No face fits into the picture."""

    code = "image_too_small"


class FaceError(VultusError):
    """The picture is fine, its faces are not."""


class NoFace(FaceError):
    """No face was found."""

    code = "no_face"


class SeveralFaces(FaceError):
    """More than one face was found where exactly one was asked for."""

    code = "several_faces"


class DegenerateLandmarks(FaceError):
    """The five points coincide or lie on one line, so they fix no alignment."""

    code = "degenerate_landmarks"


class DecisionError(VultusError):
    """No decision can be made of the similarity."""


class OperatingPointUnknown(DecisionError):
    """The calibration has no such operating point."""

    code = "operating_point_unknown"


class CalibrationUnfit(DecisionError):
    """The calibration is absent, malformed or was measured on another model."""

    code = "calibration_unfit"


class ModelFilesError(VultusError):
    """What should be served cannot be."""


class PackUnknown(ModelFilesError):
    """No manifest has that name."""

    code = "pack_unknown"


class ManifestInvalid(ModelFilesError):
    """The manifest says something that is not in its format."""

    code = "manifest_invalid"


class PackMissing(ModelFilesError):
    """The pack was never fetched."""

    code = "pack_missing"


class PackDamaged(ModelFilesError):
    """A file of the pack is absent or not the one that was fetched."""

    code = "pack_damaged"


class SourceUnavailable(ModelFilesError):
    """No source gave the file that the manifest describes."""

    code = "source_unavailable"


class ArtefactUnfit(ModelFilesError):
    """The recognizer's card or proof says that it must not be served."""

    code = "artefact_unfit"


class StorageFailed(ModelFilesError):
    """The file system refused a read or write that the model files need."""

    code = "storage_failed"


class EngineError(VultusError):
    """The machine cannot run it."""


class EngineMissing(EngineError):
    """The engine or device that was asked for is not there."""

    code = "engine_missing"


class EngineConflict(EngineError):
    """Two builds of one engine are installed over each other."""

    code = "engine_conflict"


class PrecisionUnsupported(EngineError):
    """The engine cannot compute in that precision on this machine."""

    code = "precision_unsupported"


class InferenceFailed(EngineError):
    """The engine gave no usable numbers."""

    code = "inference_failed"
