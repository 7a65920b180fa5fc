"""From a photo to faces with embeddings: the one place where the steps meet."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.alignment import align, alignment_matrix, crop_scale
from models.detection import Face, FaceDetector
from models.embedding import Embedder
from models.errors import NoFace, SeveralFaces
from models.imaging import ImageLimits, Photo

FacePolicy = Literal["largest", "central", "single", "all"]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """A face and what the recognizer makes of it.

    Attributes:
        face: In pixels of the upright photo.
        embedding: (D,) float32 of length 1.
        norm: Length of the embedding before it was normalised.
    """

    face: Face
    embedding: NDArray[np.float32]
    norm: float


@dataclass(slots=True)
class StageTimes:
    """Milliseconds spent by stage; several photos of one request add up."""

    milliseconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time of the enclosed block."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = (time.perf_counter() - start) * 1000
            self.milliseconds[stage] = self.milliseconds.get(stage, 0.0) + spent


class Pipeline:
    """Decodes, detects, aligns and embeds. Safe for use by several threads at once."""

    def __init__(self, detector: FaceDetector, embedder: Embedder, limits: ImageLimits | None = None) -> None:
        self.detector = detector
        self.embedder = embedder
        self.limits = limits or ImageLimits()

    def open(self, encoded: bytes, times: StageTimes) -> Photo:
        """Read a photo's header and refuse what is too large; see `Photo` for the errors."""
        with times.measure("decode"):
            return Photo(encoded, self.limits)

    def detect(self, photo: Photo, times: StageTimes) -> list[Face]:
        """Find the faces of a photo.

        Returns:
            Faces in pixels of the upright photo, best score first.

        Raises:
            ImageDamaged: The photo is cut off or broken.
        """
        with times.measure("decode"):
            raster = photo.raster(self.detector.max_side_px / max(photo.width, photo.height))
        with times.measure("detect"):
            faces = self.detector.detect(raster.pixels)
        return [face.scaled((1 / raster.scale[0], 1 / raster.scale[1])) for face in faces]

    def embed(self, photo: Photo, policy: FacePolicy, times: StageTimes) -> list[EmbeddedFace]:
        """Find the faces of a photo and embed those that the policy means.

        Raises:
            ImageDamaged: The photo is cut off or broken.
            NoFace, SeveralFaces: The policy cannot be met.
            DegenerateLandmarks: A face's landmarks fix no alignment.
            InferenceFailed: The engine failed.
        """
        faces = choose(self.detect(photo, times), policy, (photo.width, photo.height))
        if not faces:
            return []
        crops = self._crops(photo, faces, times)
        with times.measure("embed"):
            embeddings = self.embedder.embed(crops)
        return [
            EmbeddedFace(face, embedding, float(norm)) for face, embedding, norm in zip(faces, *embeddings, strict=True)
        ]

    def _crops(self, photo: Photo, faces: list[Face], times: StageTimes) -> NDArray[np.uint8]:
        template = self.embedder.template
        with times.measure("align"):
            needed = max(crop_scale(alignment_matrix(face.landmarks, template)) for face in faces)
        with times.measure("decode"):
            raster = photo.raster(needed)  # a crop is enlarged only if the full photo would be too
        with times.measure("align"):
            landmarks = np.stack([face.scaled(raster.scale).landmarks for face in faces])
            return align(raster.pixels, landmarks, template)


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
