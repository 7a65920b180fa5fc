"""Aligned crops in, embeddings and their norms out."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.alignment import Template
from models.job import Job
from models.runtime import Session

OUTPUTS = ("embedding", "norm")


class Embeddings(NamedTuple):
    """What the recognizer gives for N crops.

    Attributes:
        embedding: (N, D) float32, each of length 1.
        norm: (N,) float32, the length of each before it was normalised.
    """

    embedding: NDArray[np.float32]
    norm: NDArray[np.float32]


class Embedder:
    """A recognizer and the template that its crops follow. Safe for use by several threads at once."""

    def __init__(self, session: Session, template: Template) -> None:
        """Wrap a session loaded with `OUTPUTS`."""
        self.session = session
        self.template = template

    def embed(self, crops: NDArray[np.uint8], job: Job | None = None) -> Embeddings:
        """Embed aligned crops.

        Args:
            crops: (N, H, W, 3) uint8, RGB, aligned to `template`, N at least 1.
            job: Whose work it is.

        Raises:
            InferenceFailed: The engine refused, or gave a number that is not finite.
            JobAbandoned, DeadlineExceeded: Nobody waits for the answer any more.
        """
        embedding, norm = self.session.run(crops, job)
        return Embeddings(embedding, norm)
