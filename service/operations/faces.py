"""Assessment of faces and conversion of received embeddings, shared by all operations."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import FaceError
from models.pipeline import EmbeddedFace, EmbeddedPhoto
from models.quality import Assessment, Gate
from models.serving.models import Models
from service.gallery.embeddings import source_of, unit_vector
from service.gallery.galleries import Galleries
from service.gallery.records import NewTemplate


@dataclass(frozen=True, slots=True, eq=False)
class ReceivedEmbedding:
    """An embedding that a client computed and sent.

    Attributes:
        values: (D,) float32, of any length.
        norm: Length before normalisation. If None, the length of `values` is used, unless it is 1.
        quality: Quality from 0 to 100, higher is better; None if unknown.
        contract_id: Embedding contract; None if the sender does not name one.
    """

    values: NDArray[np.float32]
    norm: float | None = None
    quality: float | None = None
    contract_id: str | None = None


Content = bytes | ReceivedEmbedding
"""An encoded image, or an embedding."""


class JudgedFace(NamedTuple):
    """A face of a photo, its assessment, and the error with which the gate refuses it, or None."""

    face: EmbeddedFace
    assessment: Assessment
    refusal: FaceError | None


def judge_faces(models: Models, photo: EmbeddedPhoto, gate: Gate) -> list[JudgedFace]:
    """Assess each face of a photo against a gate, and return the faces in order."""
    size = (photo.width, photo.height)
    faces = []
    for face in photo.faces:
        assessment = models.assess(face.face, size, face.norm, gate.min_quality)
        faces.append(JudgedFace(face, assessment, gate.refusal(assessment, models.quality)))
    return faces


def template_of(galleries: Galleries, received: ReceivedEmbedding) -> NewTemplate:
    """Create a template from an embedding.

    Raises:
        ContractMismatch: The embedding belongs to another contract than the galleries.
        EmbeddingWrongDimension: The embedding does not have the dimension of the model's embeddings.
        EmbeddingNotFinite: The embedding contains NaN or infinity.
        EmbeddingZero: The embedding is zero.
    """
    if received.contract_id is not None:
        galleries.require_contract(received.contract_id, "the embedding is")
    vector, length = unit_vector(received.values, galleries.dimensions)
    norm = length if received.norm is None else received.norm
    return NewTemplate(vector, source_of(vector), norm, received.quality)
