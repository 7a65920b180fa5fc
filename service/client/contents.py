"""What is sent: photos, embeddings and subjects."""

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

Photo = bytes | bytearray | memoryview | str | os.PathLike[str] | BinaryIO
"""A photo: its bytes, its path, or an open binary file, which is read from where it stands to its end."""


@dataclass(frozen=True, slots=True, eq=False)
class Embedding:
    """An embedding that was computed earlier, and what is known of it.

    Attributes:
        vector: (D,) float, of any length above 0.
        norm: Length before normalisation; used by enrolment.
        quality: Quality from 0 to 100; used by enrolment.
        contract_id: Embedding contract, as `embed` names it; refused if the service has another one.
    """

    vector: NDArray[np.floating[Any]]
    norm: float | None = None
    quality: float | None = None
    contract_id: str | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject of a gallery, with all its templates."""

    gallery: str
    name: str


Content = Photo | Embedding | NDArray[np.floating[Any]]
"""A photo or an embedding."""

Side = Content | Subject
"""A side of a comparison."""


def photo_bytes(photo: Photo) -> bytes:
    """Return the bytes of a photo; a file of a path is read.

    Raises:
        OSError: The file cannot be read.
        TypeError: It is no photo, or a file that is open as text.
    """
    if isinstance(photo, str | os.PathLike):
        return Path(photo).read_bytes()
    content = photo.read() if hasattr(photo, "read") else photo
    if not isinstance(content, bytes | bytearray | memoryview):
        raise TypeError(f"a photo is bytes, a path or an open binary file, not {type(content).__name__}")
    return bytes(content)


def embedding_members(embedding: Embedding | NDArray[np.floating[Any]], enrolled: bool) -> dict[str, Any]:
    """Return the members of an embedding that are known, with the vector as base64 of little-endian float32.

    Args:
        embedding: The embedding.
        enrolled: Whether it is enrolled, so that norm and quality matter; searches and comparisons refuse them.

    Raises:
        ValueError: The vector has other than one dimension.
    """
    known = embedding if isinstance(embedding, Embedding) else Embedding(embedding)
    vector = np.asarray(known.vector)
    if vector.ndim != 1:
        raise ValueError(f"an embedding has one dimension, not {vector.ndim}")
    members = {"embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()}
    optional: dict[str, Any] = {"contract_id": known.contract_id}
    if enrolled:
        optional |= {"norm": known.norm, "quality": known.quality}
    return members | {name: value for name, value in optional.items() if value is not None}


def content_members(content: Content, enrolled: bool) -> dict[str, Any]:
    """Return the members of a photo or an embedding in JSON.

    Args:
        content: The photo or embedding.
        enrolled: As for `embedding_members`.

    Raises:
        OSError: The file of a photo cannot be read.
        TypeError: It is neither a photo nor an embedding.
        ValueError: An embedding has other than one dimension.
    """
    if isinstance(content, Embedding | np.ndarray):
        return embedding_members(content, enrolled)
    return {"image": base64.b64encode(photo_bytes(content)).decode()}
