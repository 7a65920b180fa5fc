"""The pipeline from encoded images to faces with embeddings.

`FaceCropper` decodes, detects and aligns. `Pipeline` adds the recognizer.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import AlignmentTemplate, align, alignment_matrix, crop_scale
from models.deadline import Deadline
from models.detection import DetectionOptions, Face, FaceDetector
from models.detection.policy import FacePolicy, select_faces
from models.embedding import Embedder
from models.errors import CancellationError, EngineStopped, VultusError
from models.imaging import ImageLimits, Photo, Raster

PIPELINE_REVISION = 5
"""Raised when a photo gives other crops than before, because embeddings that were kept for it are then out of date."""

_OWN_BATCH = 16
"""Faces of one photo that fill the runs of an engine, so that waiting for those of other photos gains nothing."""

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True, eq=False)
class DetectedPhoto:
    """A photo and its faces.

    Attributes:
        width, height: Size of the upright photo in pixels.
        faces: Faces in pixels of the upright photo, highest score first.
        omitted: Number of faces that were found but left out, because a photo has too many.
    """

    width: int
    height: int
    faces: list[Face]
    omitted: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class CroppedPhoto:
    """A photo, its faces and their crops.

    Attributes:
        photo: Size and faces of the photo.
        crops: (F, H, W, 3) uint8, RGB; the aligned crops of the F faces.
    """

    photo: DetectedPhoto
    crops: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """A face and its embedding.

    Attributes:
        face: Face in pixels of the upright photo.
        embedding: (D,) float32 of length 1.
        norm: Length of the embedding before normalisation.
        crop: (H, W, 3) uint8, RGB; the aligned crop that was embedded, if crops are kept.
    """

    face: Face
    embedding: NDArray[np.float32]
    norm: float
    crop: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPhoto:
    """A photo and its embedded faces.

    Attributes:
        width, height: Size of the upright photo in pixels.
        faces: Embedded faces, highest score first.
        omitted: Number of faces that were found but left out, because a photo has too many.
    """

    width: int
    height: int
    faces: list[EmbeddedFace]
    omitted: int = 0


class FaceCropper:
    """Decodes images, detects faces and aligns them. Thread-safe.

    Several photos are processed concurrently, so that one is decoded while another is in the detector. Each photo has
    its own outcome: an error in one photo does not affect the others. Its worker threads end when it is closed, which
    `with` does at the end of the block.
    """

    def __init__(
        self,
        detector: FaceDetector,
        template: AlignmentTemplate,
        limits: ImageLimits | None = None,
        workers: int = 2,
        max_faces: int = DetectionOptions().max_faces,
    ) -> None:
        """Connect the steps.

        Args:
            detector: Face detector.
            template: Alignment template of the crops.
            limits: Limits of the images; the defaults of `ImageLimits` if None.
            workers: Number of worker threads for photos.
            max_faces: Maximum number of faces that are selected in a photo.
        """
        self.detector = detector
        self.template = template
        self.limits = limits or ImageLimits()
        self._max_faces = max_faces
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="photo")

    def __enter__(self) -> Self:
        """Return the cropper itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """Finish the accepted photos and end the worker threads. May be called again."""
        self._workers.shutdown()

    def detect(
        self, encoded: Sequence[bytes], policy: FacePolicy, deadline: Deadline
    ) -> list[DetectedPhoto | VultusError]:
        """Detect the faces of photos.

        Args:
            encoded: Image files.
            policy: Selects the faces of a photo.
            deadline: Deadline of the request; the duration of each stage is added to it.

        Returns:
            For each photo, in order, its faces or the `ImageError`, `FaceError` or `EngineError` that it caused.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """

        def detect(image: bytes) -> DetectedPhoto:
            return self._find(image, policy, deadline)[1]

        return self._for_each(encoded, detect)

    def crop(
        self, encoded: Sequence[bytes], policy: FacePolicy, deadline: Deadline
    ) -> list[CroppedPhoto | VultusError]:
        """Detect the faces of photos and align those that the policy selects.

        Args:
            encoded: Image files.
            policy: Selects the faces of a photo.
            deadline: Deadline of the request; the duration of each stage is added to it.

        Returns:
            For each photo, in order, its crops or the `ImageError`, `FaceError` or `EngineError` that it caused.

        Raises:
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """

        def crop(image: bytes) -> CroppedPhoto:
            photo, detected = self._find(image, policy, deadline)
            return CroppedPhoto(detected, self._crops(photo, detected.faces, deadline))

        return self._for_each(encoded, crop)

    def _for_each(self, encoded: Sequence[bytes], step: Callable[[bytes], Outcome]) -> list[Outcome | VultusError]:
        """Apply a step to all photos concurrently and return the outcomes in order, errors included.

        The caller's thread takes photos too, so a request never waits for a worker that is busy with other requests.
        """
        pending = deque(enumerate(encoded))
        outcomes: dict[int, Outcome | VultusError] = {}

        def attempt(image: bytes) -> Outcome | VultusError:
            try:
                return step(image)
            except CancellationError:
                raise
            except VultusError as error:
                return error

        def take() -> None:
            try:
                position, image = pending.popleft()
            except IndexError:  # another thread took the last one
                return
            outcomes[position] = attempt(image)

        try:
            helpers = [self._workers.submit(take) for _ in encoded[1:]]
        except RuntimeError as error:  # the only cause: the workers were shut down
            raise EngineStopped("the pipeline is closed and accepts no more photos") from error
        try:
            while pending:
                take()
        finally:
            started = [helper for helper in helpers if not helper.cancel()]
        for helper in started:
            helper.result()
        return [outcomes[position] for position in range(len(encoded))]

    def _find(self, encoded: bytes, policy: FacePolicy, deadline: Deadline) -> tuple[Photo, DetectedPhoto]:
        with deadline.stage("decode"):
            photo = Photo(encoded, self.limits)
            raster = photo.raster(self.detector.raster_scale(photo.width, photo.height))
        with deadline.stage("detect"):
            found = self.detector.detect(raster.pixels, deadline)
            height, width = raster.pixels.shape[:2]
            selected = select_faces(found, policy, (width, height))
            omitted = max(0, len(selected) - self._max_faces)
            faces = self.detector.confirm(raster.pixels, selected[: self._max_faces], deadline)
        faces = [face.scaled((1 / raster.scale[0], 1 / raster.scale[1])) for face in faces]
        return photo, DetectedPhoto(photo.width, photo.height, faces, omitted)

    def _crops(self, photo: Photo, faces: list[Face], deadline: Deadline) -> NDArray[np.uint8]:
        template = self.template
        with deadline.stage("align"):
            needed = max((crop_scale(alignment_matrix(face.landmarks, template)) for face in faces), default=0.0)
        with deadline.stage("decode"):
            raster = photo.raster(needed)  # a crop is an enlargement only if the full photo is too small
        with deadline.stage("align"):
            return _align_all(raster, faces, template)


class Pipeline(FaceCropper):
    """Decodes images, detects faces, aligns and embeds them. Thread-safe.

    The faces of a request are embedded in one batch, except those of photos with many faces. Such a photo is embedded
    alone, so that its crops are held only until then: those of 64 photos with 256 faces would take 600 MB.
    """

    def __init__(
        self,
        detector: FaceDetector,
        embedder: Embedder,
        limits: ImageLimits | None = None,
        workers: int = 2,
        max_faces: int = DetectionOptions().max_faces,
    ) -> None:
        """Connect the steps.

        Args:
            detector: Face detector.
            embedder: Recognizer; its template is the alignment template of the crops.
            limits: Limits of the images; the defaults of `ImageLimits` if None.
            workers: Number of worker threads for photos.
            max_faces: Maximum number of faces that are selected in a photo.
        """
        super().__init__(detector, embedder.template, limits, workers, max_faces)
        self.embedder = embedder

    def embed(
        self, encoded: Sequence[bytes], policy: FacePolicy, deadline: Deadline, *, keep_crops: bool = False
    ) -> list[EmbeddedPhoto | VultusError]:
        """Detect the faces of photos and embed those that the policy selects.

        Args:
            encoded: Image files.
            policy: Selects the faces of a photo.
            deadline: Deadline of the request; the duration of each stage is added to it.
            keep_crops: Whether the faces are returned with their crops.

        Returns:
            For each photo, in order, its faces or the `ImageError`, `FaceError` or `EngineError` that it caused.

        Raises:
            InferenceFailed: The engine failed or returned a number that is not finite.
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """

        def crop(image: bytes) -> CroppedPhoto | EmbeddedPhoto:
            photo, detected = self._find(image, policy, deadline)
            cropped = CroppedPhoto(detected, self._crops(photo, detected.faces, deadline))
            return cropped if len(cropped.crops) < _OWN_BATCH else self._embed([cropped], deadline, keep_crops)[0]

        outcomes = self._for_each(encoded, crop)
        embedded = iter(self._embed([one for one in outcomes if isinstance(one, CroppedPhoto)], deadline, keep_crops))
        return [next(embedded) if isinstance(outcome, CroppedPhoto) else outcome for outcome in outcomes]

    def _embed(self, photos: Sequence[CroppedPhoto], deadline: Deadline, keep_crops: bool) -> list[EmbeddedPhoto]:
        """Embed the faces of photos in one batch."""
        crops = [photo.crops for photo in photos if len(photo.crops)]
        rows: Iterator[tuple[NDArray[np.float32], float]] = iter(())
        if crops:
            with deadline.stage("embed"):
                embeddings = self.embedder.embed(crops[0] if len(crops) == 1 else np.concatenate(crops), deadline)
            rows = zip(embeddings.embedding, map(float, embeddings.norm), strict=True)
        return [
            EmbeddedPhoto(
                photo.photo.width,
                photo.photo.height,
                [
                    EmbeddedFace(face, *next(rows), crop if keep_crops else None)
                    for face, crop in zip(photo.photo.faces, photo.crops, strict=True)
                ],
                photo.photo.omitted,
            )
            for photo in photos
        ]


def _align_all(raster: Raster, faces: list[Face], template: AlignmentTemplate) -> NDArray[np.uint8]:
    """Align faces, each from the level of an image pyramid at which its crop is reduced by less than half.

    A warp reads four source pixels for each crop pixel, so it would skip most pixels of a large face.
    """
    crops = np.empty((len(faces), template.height, template.width, 3), np.uint8)
    levels = [raster.pixels]
    for crop, face in zip(crops, faces, strict=True):
        in_raster = face.scaled(raster.scale)
        halvings = max(0, int(-np.log2(crop_scale(alignment_matrix(in_raster.landmarks, template)))))
        while len(levels) <= halvings:
            height, width = (-(-side // 2) for side in levels[-1].shape[:2])
            shrunk = cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)
            levels.append(shrunk.astype(np.uint8, copy=False))
        pixels = levels[halvings]
        factor = (pixels.shape[1] / raster.pixels.shape[1], pixels.shape[0] / raster.pixels.shape[0])
        crop[:] = align(pixels, in_raster.scaled(factor).landmarks[None], template)[0]
    return crops
