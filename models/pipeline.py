"""From photos to faces with embeddings: the one place where the steps meet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.cropping import FaceCropper, FacePolicy
from models.detection import Face, FaceDetector
from models.embedding import Embedder
from models.errors import VultusError
from models.imaging import ImageLimits
from models.job import Job


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """A face and what the recognizer makes of it.

    Attributes:
        face: In pixels of the upright photo.
        embedding: (D,) float32 of length 1.
        norm: Length of the embedding before it was normalised.
        crop: (H, W, 3) uint8, RGB, aligned: what was embedded.
    """

    face: Face
    embedding: NDArray[np.float32]
    norm: float
    crop: NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedPhoto:
    """A photo and its embedded faces.

    Attributes:
        width, height: Pixels of the upright photo.
        faces: Best score first.
    """

    width: int
    height: int
    faces: list[EmbeddedFace]


class Pipeline(FaceCropper):
    """A cropper and the recognizer behind it. Safe for use by several threads at once.

    All faces of a request are embedded in one batch.
    """

    def __init__(
        self, detector: FaceDetector, embedder: Embedder, limits: ImageLimits | None = None, workers: int = 2
    ) -> None:
        """Put an embedder behind the steps of `FaceCropper`, whose template it gives."""
        super().__init__(detector, embedder.template, limits, workers)
        self.embedder = embedder

    def embed(self, encoded: Sequence[bytes], policy: FacePolicy, job: Job) -> list[EmbeddedPhoto | VultusError]:
        """Find the faces of photos and embed those that the policy means.

        Args:
            encoded: Image files.
            policy: Which faces of a photo are meant.
            job: Whose work it is; told what was spent.

        Returns:
            For each photo, in order, its faces or why there are none: an `ImageError` or `FaceError`.

        Raises:
            InferenceFailed: The engine failed.
            JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more.
        """
        outcomes = self.crop(encoded, policy, job)
        crops = [outcome.crops for outcome in outcomes if not isinstance(outcome, VultusError)]
        embedded = iter(self._embed(np.concatenate(crops), job) if any(map(len, crops)) else ())
        return [
            outcome
            if isinstance(outcome, VultusError)
            else EmbeddedPhoto(
                outcome.photo.width,
                outcome.photo.height,
                [
                    EmbeddedFace(face, *next(embedded), crop)
                    for face, crop in zip(outcome.photo.faces, outcome.crops, strict=True)
                ],
            )
            for outcome in outcomes
        ]

    def _embed(self, crops: NDArray[np.uint8], job: Job) -> Iterator[tuple[NDArray[np.float32], float]]:
        with job.measure("embed"):
            embeddings = self.embedder.embed(crops, job)
        return zip(embeddings.embedding, map(float, embeddings.norm), strict=True)
