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
│   ├── DegenerateLandmarks
│   ├── FaceTooSmall
│   ├── LowQuality
│   ├── ExtremePose
│   └── CutOff
├── DecisionError            no decision can be made of the similarity
│   ├── OperatingPointUnknown
│   ├── CalibrationUnfit
│   └── QualityUnvalidated
├── EvaluationError          nothing, or nothing reliable, can be measured on these pictures
│   ├── SetUnreadable
│   ├── SetUnsafe
│   ├── SetIncomplete
│   ├── PictureMissing
│   ├── OneClassOnly
│   ├── TooFewSubjects
│   ├── TooManyPairs
│   └── CacheFailed
├── ModelFilesError          what should be served cannot be
│   ├── PackUnknown
│   ├── ManifestInvalid
│   ├── PackMissing
│   ├── PackDamaged
│   ├── SourceUnavailable
│   ├── ArtefactUnfit
│   └── StorageFailed
├── ExportError              a checkpoint cannot become an artefact
│   ├── CheckpointUnreadable
│   ├── CheckpointUnsafe
│   ├── CheckpointIsModule
│   ├── CheckpointWithoutWeights
│   ├── WeightsNotFinite
│   ├── ArchitectureUnknown
│   ├── LandmarksNeeded
│   ├── ColorUnknown
│   ├── BuilderUnfit
│   ├── GraphUnsupported
│   ├── PicturesUnfit
│   ├── OutputExists
│   ├── ParityFailed
│   ├── StepDied
│   └── ExtraMissing
├── CancellationError        the request ended before its work did
│   ├── RequestCancelled
│   └── DeadlineExceeded
└── EngineError              the machine cannot run it
    ├── EngineMissing
    ├── EngineConflict
    ├── PrecisionUnsupported
    ├── EngineBuildFailed
    ├── EngineStopped
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


class FaceTooSmall(FaceError):
    """The face is smaller than asked for, or than any that was measured."""

    code = "face_too_small"


class LowQuality(FaceError):
    """The face's quality, or the length of its embedding, is lower than asked for, or not known."""

    code = "low_quality"


class ExtremePose(FaceError):
    """The face is turned away further than any that was measured."""

    code = "extreme_pose"


class CutOff(FaceError):
    """More of the face lies beyond the photo than of any that was measured."""

    code = "cut_off"


class DecisionError(VultusError):
    """No decision can be made of the similarity."""


class OperatingPointUnknown(DecisionError):
    """The calibration has no such operating point."""

    code = "operating_point_unknown"


class CalibrationUnfit(DecisionError):
    """The calibration is absent, malformed or was measured on another model."""

    code = "calibration_unfit"


class QualityUnvalidated(DecisionError):
    """Quality cannot gate: it was not shown to order this model's errors, or never measured."""

    code = "quality_unvalidated"


class EvaluationError(VultusError):
    """Nothing, or nothing reliable, can be measured on these pictures."""


class SetUnreadable(EvaluationError):
    """A file that describes the set is absent or not in its format."""

    code = "set_unreadable"


class SetUnsafe(EvaluationError):
    """The file asks to run code; nothing of it was run."""

    code = "set_unsafe"


class SetIncomplete(EvaluationError):
    """More pictures of the set are missing than is allowed."""

    code = "set_incomplete"


class PictureMissing(EvaluationError):
    """A picture of the set is not there or cannot be read."""

    code = "picture_missing"


class OneClassOnly(EvaluationError):
    """There are no mated, or no non-mated, comparisons."""

    code = "one_class_only"


class TooFewSubjects(EvaluationError):
    """There are fewer subjects, or pairs, than what is measured needs."""

    code = "too_few_subjects"


class TooManyPairs(EvaluationError):
    """There are more mated pairs than can be kept."""

    code = "too_many_pairs"


class CacheFailed(EvaluationError):
    """The file in which embeddings are kept cannot be used."""

    code = "cache_failed"


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


class ExportError(VultusError):
    """A checkpoint cannot become an artefact."""


class CheckpointUnreadable(ExportError):
    """The file is no checkpoint, cut off or damaged."""

    code = "checkpoint_unreadable"


class CheckpointUnsafe(ExportError):
    """The file asks to run code; nothing of it was run."""

    code = "checkpoint_unsafe"


class CheckpointIsModule(ExportError):
    """The file is a whole pickled module or an archive of code, not weights."""

    code = "checkpoint_is_module"


class CheckpointWithoutWeights(ExportError):
    """The file holds no network, such as one of an optimizer's state only."""

    code = "checkpoint_without_weights"


class WeightsNotFinite(ExportError):
    """A weight is NaN or infinite."""

    code = "weights_not_finite"


class ArchitectureUnknown(ExportError):
    """No known network has just these keys and shapes."""

    code = "architecture_unknown"


class LandmarksNeeded(ExportError):
    """The network takes landmarks as a second input."""

    code = "landmarks_needed"


class ColorUnknown(ExportError):
    """Neither the file nor what lies beside it tells the colour order."""

    code = "color_unknown"


class BuilderUnfit(ExportError):
    """The user's own network cannot be had or does not fit the weights."""

    code = "builder_unfit"


class GraphUnsupported(ExportError):
    """The graph does not have the form that its conversion knows."""

    code = "graph_unsupported"


class PicturesUnfit(ExportError):
    """The pictures given for calibration or proof cannot be used."""

    code = "pictures_unfit"


class OutputExists(ExportError):
    """The output directory is there and was not to be replaced."""

    code = "output_exists"


class ParityFailed(ExportError):
    """The exported graph does not answer like the network; the artefact is marked unfit."""

    code = "parity_failed"


class StepDied(ExportError):
    """The system ended a process of the export."""

    code = "step_died"


class ExtraMissing(ExportError):
    """A package that this needs is not installed."""

    code = "extra_missing"


class CancellationError(VultusError):
    """The request ended before its work did."""


class RequestCancelled(CancellationError):
    """The client has left."""

    code = "request_cancelled"


class DeadlineExceeded(CancellationError):
    """The answer did not come within the time that it was given."""

    code = "deadline_exceeded"


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


class EngineBuildFailed(EngineError):
    """TensorRT refuses the graph or the build."""

    code = "engine_build_failed"


class EngineStopped(EngineError):
    """The engine takes no more work: it is shutting down, or died."""

    code = "engine_stopped"


class InferenceFailed(EngineError):
    """The engine gave no usable numbers."""

    code = "inference_failed"
