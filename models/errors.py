"""The errors of the inference core, one class for each cause.

VultusError
├── ImageError               the image cannot be used
│   ├── ImageEmpty
│   ├── ImageUnreadable
│   ├── ImageEncodingUnsupported
│   ├── ImageSeveralPages
│   ├── ImageDamaged
│   ├── ImageTooManyBytes
│   ├── ImageTooManyPixels
│   └── ImageTooSmall
├── FaceError                the image is valid, but its faces cannot be used
│   ├── NoFace
│   ├── SeveralFaces
│   ├── DegenerateLandmarks
│   ├── FaceTooSmall
│   ├── LowQuality
│   ├── ExtremePose
│   └── CutOff
├── DecisionError            no decision can be derived from the similarity
│   ├── OperatingPointUnknown
│   ├── CalibrationUnfit
│   └── QualityUnvalidated
├── EvaluationError          the evaluation set supports no reliable measurement
│   ├── SetUnreadable
│   ├── SetUnsafe
│   ├── SetIncomplete
│   ├── ImageMissing
│   ├── SingleClass
│   ├── TooFewSubjects
│   ├── TooManyPairs
│   └── CacheFailed
├── ModelFilesError          the model files cannot be used
│   ├── PackUnknown
│   ├── ManifestInvalid
│   ├── PackMissing
│   ├── PackDamaged
│   ├── SourceUnavailable
│   ├── HubReferenceInvalid
│   ├── HubNotFound
│   ├── HubAccessDenied
│   ├── HubFilesAmbiguous
│   ├── ArtefactUnfit
│   └── StorageFailed
├── ExportError              a checkpoint cannot be exported to an artefact
│   ├── CheckpointUnreadable
│   ├── CheckpointUnsafe
│   ├── CheckpointIsModule
│   ├── CheckpointWithoutWeights
│   ├── CheckpointAmbiguous
│   ├── WeightTypeUnsupported
│   ├── WeightsNotFinite
│   ├── ArchitectureUnknown
│   ├── LandmarksNeeded
│   ├── ColorUnknown
│   ├── BuilderUnfit
│   ├── GraphUnsupported
│   ├── ImagesUnfit
│   ├── OutputExists
│   ├── ParityFailed
│   ├── ExportProcessKilled
│   └── ExtraMissing
├── CancellationError        the request ended before its work was complete
│   ├── RequestCancelled
│   └── DeadlineExceeded
└── EngineError              the model cannot run on this machine
    ├── EngineMissing
    ├── EngineConflict
    ├── PrecisionUnsupported
    ├── EngineBuildFailed
    ├── EngineStopped
    └── InferenceFailed

Messages are sentences for the person who sent the input. They never hold pixels, embeddings or names of people.

The first docstring line of a class is shown to clients as the title of a problem.
"""

from typing import ClassVar


class VultusError(Exception):
    """Base class of all errors that Vultus raises deliberately.

    Attributes:
        code: Stable, machine-readable code; part of the public interface.
        part: Part of the input to which the error refers, if the input has several parts.
    """

    code: ClassVar[str]
    part: str | None = None


class ImageError(VultusError):
    """The image cannot be used."""


class ImageEmpty(ImageError):
    """The image is empty."""

    code = "image_empty"


class ImageUnreadable(ImageError):
    """The bytes are not an image in a supported format."""

    code = "image_unreadable"


class ImageEncodingUnsupported(ImageError):
    """The format of the image is supported, but not the form in which this file holds its pixels."""

    code = "image_encoding_unsupported"


class ImageSeveralPages(ImageError):
    """The image has several pages, and none is the only one to use."""

    code = "image_several_pages"


class ImageDamaged(ImageError):
    """The image is truncated or corrupt."""

    code = "image_damaged"


class ImageTooManyBytes(ImageError):
    """The encoded image exceeds the maximum size in bytes."""

    code = "image_too_many_bytes"


class ImageTooManyPixels(ImageError):
    """The image exceeds the maximum number of pixels."""

    code = "image_too_many_pixels"


class ImageTooSmall(ImageError):
    """The image is too small to contain a detectable face."""

    code = "image_too_small"


class FaceError(VultusError):
    """The image is valid, but its faces cannot be used."""


class NoFace(FaceError):
    """No face was found."""

    code = "no_face"


class SeveralFaces(FaceError):
    """Several faces were found where exactly one is required."""

    code = "several_faces"


class DegenerateLandmarks(FaceError):
    """The five landmarks coincide or lie on one line, so they determine no alignment."""

    code = "degenerate_landmarks"


class FaceTooSmall(FaceError):
    """The face is smaller than the required minimum or than the faces of the calibration."""

    code = "face_too_small"


class LowQuality(FaceError):
    """The quality or the norm of the face is below the required minimum or unknown."""

    code = "low_quality"


class ExtremePose(FaceError):
    """The face is turned or tilted further than the faces of the calibration."""

    code = "extreme_pose"


class CutOff(FaceError):
    """More of the face lies outside the photo than for the faces of the calibration."""

    code = "cut_off"


class DecisionError(VultusError):
    """No decision can be derived from the similarity."""


class OperatingPointUnknown(DecisionError):
    """The calibration has no such operating point."""

    code = "operating_point_unknown"


class CalibrationUnfit(DecisionError):
    """The calibration is missing, malformed or was measured with another model."""

    code = "calibration_unfit"


class QualityUnvalidated(DecisionError):
    """The quality of this model is not validated, so it cannot be used as a gate."""

    code = "quality_unvalidated"


class EvaluationError(VultusError):
    """The evaluation set supports no reliable measurement."""


class SetUnreadable(EvaluationError):
    """A file that describes the evaluation set is missing or malformed."""

    code = "set_unreadable"


class SetUnsafe(EvaluationError):
    """The file attempts to run code, which was not executed."""

    code = "set_unsafe"


class SetIncomplete(EvaluationError):
    """More pictures of the evaluation set are missing than allowed."""

    code = "set_incomplete"


class ImageMissing(EvaluationError):
    """A picture of the evaluation set is missing or cannot be read."""

    code = "image_missing"


class SingleClass(EvaluationError):
    """The mated or the non-mated comparisons are missing."""

    code = "single_class"


class TooFewSubjects(EvaluationError):
    """The evaluation set has fewer subjects or pairs than the measurement needs."""

    code = "too_few_subjects"


class TooManyPairs(EvaluationError):
    """The evaluation set has more mated pairs than fit in memory."""

    code = "too_many_pairs"


class CacheFailed(EvaluationError):
    """The embedding cache cannot be used."""

    code = "cache_failed"


class ModelFilesError(VultusError):
    """The model files cannot be used."""


class PackUnknown(ModelFilesError):
    """No manifest has this name."""

    code = "pack_unknown"


class ManifestInvalid(ModelFilesError):
    """The manifest is malformed or holds an invalid value."""

    code = "manifest_invalid"


class PackMissing(ModelFilesError):
    """The pack was never fetched."""

    code = "pack_missing"


class PackDamaged(ModelFilesError):
    """A file of the pack is missing or differs from the one that was fetched."""

    code = "pack_damaged"


class SourceUnavailable(ModelFilesError):
    """No source provides the file, or its bytes are not the expected ones."""

    code = "source_unavailable"


class HubReferenceInvalid(ModelFilesError):
    """The reference to a repository of the Hugging Face Hub is malformed."""

    code = "hub_reference_invalid"


class HubNotFound(ModelFilesError):
    """The Hugging Face Hub has no such repository, revision or file."""

    code = "hub_not_found"


class HubAccessDenied(ModelFilesError):
    """The Hugging Face Hub does not give the repository to this user."""

    code = "hub_access_denied"


class HubFilesAmbiguous(ModelFilesError):
    """The repository has several files that may be meant."""

    code = "hub_files_ambiguous"


class ArtefactUnfit(ModelFilesError):
    """The card or the parity proof of the recognizer forbids serving it."""

    code = "artefact_unfit"


class StorageFailed(ModelFilesError):
    """The file system refused a read or a write."""

    code = "storage_failed"


class ExportError(VultusError):
    """The checkpoint cannot be exported to an artefact."""


class CheckpointUnreadable(ExportError):
    """The file is not a checkpoint, or it is truncated or corrupt."""

    code = "checkpoint_unreadable"


class CheckpointUnsafe(ExportError):
    """The file attempts to run code, which was not executed."""

    code = "checkpoint_unsafe"


class CheckpointIsModule(ExportError):
    """The file holds a pickled module or an archive of code instead of weights."""

    code = "checkpoint_is_module"


class CheckpointWithoutWeights(ExportError):
    """The file holds no network weights."""

    code = "checkpoint_without_weights"


class CheckpointAmbiguous(ExportError):
    """The file holds several networks, or two weights of one name, and the user named none of them."""

    code = "checkpoint_ambiguous"


class WeightTypeUnsupported(ExportError):
    """A weight is stored in a number type that is not read."""

    code = "weight_type_unsupported"


class WeightsNotFinite(ExportError):
    """A weight is NaN or infinite."""

    code = "weights_not_finite"


class ArchitectureUnknown(ExportError):
    """No known network has exactly these keys and shapes."""

    code = "architecture_unknown"


class LandmarksNeeded(ExportError):
    """The network requires landmarks as a second input."""

    code = "landmarks_needed"


class ColorUnknown(ExportError):
    """Neither the checkpoint nor the files beside it state the colour order."""

    code = "color_unknown"


class BuilderUnfit(ExportError):
    """The builder of the network cannot be loaded or does not fit the weights."""

    code = "builder_unfit"


class GraphUnsupported(ExportError):
    """The graph has a structure that the conversion does not support."""

    code = "graph_unsupported"


class ImagesUnfit(ExportError):
    """The pictures for calibration or the parity proof cannot be used."""

    code = "images_unfit"


class OutputExists(ExportError):
    """The output directory exists and was not replaced."""

    code = "output_exists"


class ParityFailed(ExportError):
    """The outputs of the exported graph differ from those of the network, so the artefact is marked unfit."""

    code = "parity_failed"


class ExportProcessKilled(ExportError):
    """The operating system ended a process of the export."""

    code = "export_process_killed"


class ExtraMissing(ExportError):
    """A required package is not installed."""

    code = "extra_missing"


class CancellationError(VultusError):
    """The request ended before its work was complete."""


class RequestCancelled(CancellationError):
    """The client disconnected."""

    code = "request_cancelled"


class DeadlineExceeded(CancellationError):
    """The request exceeded its time limit."""

    code = "deadline_exceeded"


class EngineError(VultusError):
    """The model cannot run on this machine."""


class EngineMissing(EngineError):
    """The requested engine or device is not available."""

    code = "engine_missing"


class EngineConflict(EngineError):
    """Several builds of one engine are installed and overwrite each other."""

    code = "engine_conflict"


class PrecisionUnsupported(EngineError):
    """The engine does not support this precision on this machine."""

    code = "precision_unsupported"


class EngineBuildFailed(EngineError):
    """TensorRT cannot build an engine from the graph."""

    code = "engine_build_failed"


class EngineStopped(EngineError):
    """The engine has stopped and accepts no more work."""

    code = "engine_stopped"


class InferenceFailed(EngineError):
    """The engine returned no usable numbers."""

    code = "inference_failed"
