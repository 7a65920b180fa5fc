"""Embeddings that clients of CompreFace send."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field

from service.api.backend import Backend
from service.api.intake.body import ReceivedRequest
from service.compat.compreface.intake import Schema, read_json, validate_options
from service.errors import EmbeddingWrongDimension, TooManyEmbeddings
from service.gallery.embeddings import unit_vector

Numbers = Annotated[list[float], FailFast(), Field(min_length=1)]
Several = Annotated[list[Numbers], FailFast(), Field(min_length=1)]


def read_embeddings(received: ReceivedRequest, backend: Backend, schema: type[Schema], several: str) -> Schema:
    """Read a request whose body is a JSON object with embeddings.

    Their number and their lengths are checked before each number is: a body has room for two million wrong ones.

    Args:
        received: The request.
        backend: The shared state, with the limits of requests.
        schema: Schema of the members.
        several: Name of the member that is a list of embeddings.

    Raises:
        JsonMalformed: The body is not a JSON object.
        TooManyEmbeddings: The list is longer than allowed.
        EmbeddingWrongDimension: An embedding does not have the dimension of the model's embeddings.
        MemberInvalid: A member has a value that it cannot have.
        MemberMissing: A member is missing.
    """
    members = read_json(received)
    sent, maximum = members.get(several), backend.settings.request.max_embeddings
    if isinstance(sent, list):
        if len(sent) > maximum:
            raise TooManyEmbeddings(f"{len(sent)} {several} were sent; at most {maximum} are accepted")
        dimensions = backend.galleries.dimensions
        for row in sent:
            if isinstance(row, list) and len(row) != dimensions:
                raise EmbeddingWrongDimension(
                    f"an embedding has {len(row)} numbers; embeddings of this model have {dimensions}"
                )
    return validate_options(members, schema)


def as_vectors(embeddings: Sequence[Sequence[float]], dimensions: int) -> NDArray[np.float32]:
    """Return embeddings as vectors, (N, D) float32 of length 1.

    Raises:
        EmbeddingWrongDimension: An embedding does not have the dimension of the model's embeddings.
        EmbeddingNotFinite: An embedding contains NaN or infinity.
        EmbeddingZero: An embedding is zero.
    """
    with np.errstate(over="ignore"):  # the overflow becomes infinity, which `unit_vector` refuses
        rows = [np.asarray(row, np.float64).astype(np.float32) for row in embeddings]
    return np.stack([unit_vector(row, dimensions)[0] for row in rows])
