"""From photos to aligned crops of the faces that are meant."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import Template, align, alignment_matrix, crop_scale
from models.detection import Face, FaceDetector
from models.errors import JobError, NoFace, SeveralFaces, VultusError
from models.imaging import ImageLimits, Photo, Raster
from models.job import Job

FacePolicy = Literal["largest", "central", "single", "all"]
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True, eq=False)
class DetectedPhoto:
    """A photo and its faces.

    Attributes:
        width, height: Pixels of the upright photo.
        faces: In pixels of the upright photo, best score first.
    """

    width: int
    height: int
    faces: list[Face]


@dataclass(frozen=True, slots=True, eq=False)
class CroppedPhoto:
    """A photo, its faces and their crops.

    Attributes:
        photo: Size and faces.
        crops: (F, H, W, 3) uint8, RGB, aligned, one for each of the F faces.
    """

    photo: DetectedPhoto
    crops: NDArray[np.uint8]


class FaceCropper:
    """Decodes, detects and aligns. Safe for use by several threads at once.

    Photos are prepared side by side, which hides the decoding of one behind the detection of another. Every photo has
    an outcome of its own: a bad one fails alone.
    """

    def __init__(
        self, detector: FaceDetector, template: Template, limits: ImageLimits | None = None, workers: int = 2
    ) -> None:
        """Join the steps.

        Args:
            detector: Finds faces.
            template: What crops are aligned to.
            limits: What to refuse before decoding.
            workers: Photos that are prepared side by side.
        """
        self.detector = detector
        self.template = template
        self.limits = limits or ImageLimits()
        self._workers = ThreadPoolExecutor(workers, thread_name_prefix="photo")

    def detect(self, encoded: Sequence[bytes], policy: FacePolicy, job: Job) -> list[DetectedPhoto | VultusError]:
        """Find the faces of photos.

        Args:
            encoded: Image files.
            policy: Which faces of a photo are meant.
            job: Whose work it is; told what was spent.

        Returns:
            For each photo, in order, its faces or why there are none: an `ImageError` or `FaceError`.

        Raises:
            JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more.
        """

        def look(image: bytes) -> DetectedPhoto:
            photo, faces = self._find(image, policy, job)
            return DetectedPhoto(photo.width, photo.height, faces)

        return self._each(encoded, look)

    def crop(self, encoded: Sequence[bytes], policy: FacePolicy, job: Job) -> list[CroppedPhoto | VultusError]:
        """Find the faces of photos and align those that the policy means.

        Args:
            encoded: Image files.
            policy: Which faces of a photo are meant.
            job: Whose work it is; told what was spent.

        Returns:
            For each photo, in order, its crops or why there are none: an `ImageError` or `FaceError`.

        Raises:
            JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more.
        """

        def look(image: bytes) -> CroppedPhoto:
            photo, faces = self._find(image, policy, job)
            return CroppedPhoto(DetectedPhoto(photo.width, photo.height, faces), self._crops(photo, faces, job))

        return self._each(encoded, look)

    def _each(self, encoded: Sequence[bytes], look: Callable[[bytes], Outcome]) -> list[Outcome | VultusError]:
        """Look at every photo, several at a time, and keep what goes wrong with one in its place."""

        def attempt(image: bytes) -> Outcome | VultusError:
            try:
                return look(image)
            except JobError:
                raise
            except VultusError as error:
                return error

        others = [self._workers.submit(attempt, image) for image in encoded[1:]]
        return [attempt(image) for image in encoded[:1]] + [other.result() for other in others]

    def _find(self, encoded: bytes, policy: FacePolicy, job: Job) -> tuple[Photo, list[Face]]:
        with job.measure("decode"):
            photo = Photo(encoded, self.limits)
            raster = photo.raster(self.detector.max_side_px / max(photo.width, photo.height))
        with job.measure("detect"):
            faces = self.detector.detect(raster.pixels, job)
        faces = [face.scaled((1 / raster.scale[0], 1 / raster.scale[1])) for face in faces]
        return photo, choose(faces, policy, (photo.width, photo.height))

    def _crops(self, photo: Photo, faces: list[Face], job: Job) -> NDArray[np.uint8]:
        template = self.template
        with job.measure("align"):
            needed = max((crop_scale(alignment_matrix(face.landmarks, template)) for face in faces), default=0.0)
        with job.measure("decode"):
            raster = photo.raster(needed)  # a crop is enlarged only if the full photo would be too
        with job.measure("align"):
            return _align_all(raster, faces, template)


def _align_all(raster: Raster, faces: list[Face], template: Template) -> NDArray[np.uint8]:
    """Align faces, each from the level of a pyramid at which its crop is shrunk by less than half.

    A warp reads four pixels for each of its own: of a large face in a large photo it would skip most of them.
    """
    crops = np.empty((len(faces), template.height, template.width, 3), np.uint8)
    levels = [raster.pixels]
    for crop, face in zip(crops, faces, strict=True):
        own = face.scaled(raster.scale)
        halvings = max(0, int(-np.log2(crop_scale(alignment_matrix(own.landmarks, template)))))
        while len(levels) <= halvings:
            height, width = (-(-side // 2) for side in levels[-1].shape[:2])
            shrunk = cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)
            levels.append(shrunk.astype(np.uint8, copy=False))
        pixels = levels[halvings]
        factor = (pixels.shape[1] / raster.pixels.shape[1], pixels.shape[0] / raster.pixels.shape[0])
        crop[:] = align(pixels, own.scaled(factor).landmarks[None], template)[0]
    return crops


def choose(faces: list[Face], policy: FacePolicy, size: tuple[int, int]) -> list[Face]:
    """Pick the faces that a policy means.

    Args:
        faces: Of one photo, best score first.
        policy: `largest` box, most `central` box, the `single` face there is, or `all`.
        size: (width, height) of the photo.

    Raises:
        NoFace: There is none; under `all` an empty list is given instead.
        SeveralFaces: There are several under `single`.
    """
    if policy == "all":
        return faces
    if not faces:
        raise NoFace("no face was found in the image")
    if policy == "single" and len(faces) > 1:
        raise SeveralFaces(f"{len(faces)} faces were found in the image where exactly one is wanted")
    if policy == "central":
        middle = np.asarray(size, dtype=np.float32) / 2
        return [min(faces, key=lambda face: float(np.linalg.norm(face.box.reshape(2, 2).mean(axis=0) - middle)))]
    return [max(faces, key=lambda face: face.area)]
