"""Aligned crops in, embeddings and their norms out."""

import numpy as np
from numpy.typing import NDArray

from models.alignment import Template
from models.deadline import Deadline
from models.runtime import Session
from models.types import Embeddings

EMBEDDER_OUTPUTS = ("embedding", "norm")


class Embedder:
    """A recognizer and the template that its crops follow. Safe for use by several threads at once."""

    def __init__(self, session: Session, template: Template) -> None:
        """Wrap a session loaded with `EMBEDDER_OUTPUTS`."""
        self.session = session
        self.template = template

    def embed(self, crops: NDArray[np.uint8], deadline: Deadline | None = None) -> Embeddings:
        """Embed aligned crops.

        Args:
            crops: (N, H, W, 3) uint8, RGB, aligned to `template`, N at least 1.
            deadline: Whose work it is.

        Raises:
            InferenceFailed: The engine refused, or gave a number that is not finite.
            RequestCancelled, DeadlineExceeded: Nobody waits for the answer any more.
        """
        embedding, norm = self.session.run(crops, deadline)
        return Embeddings(embedding, norm)
