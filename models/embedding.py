"""Compute embeddings and their norms from aligned crops."""

import numpy as np
from numpy.typing import NDArray

from models.alignment import AlignmentTemplate
from models.deadline import Deadline
from models.runtime import Session
from models.types import Embeddings

EMBEDDER_OUTPUTS = ("embedding", "norm")


class Embedder:
    """A recognizer and the alignment template of its crops. Thread-safe."""

    def __init__(self, session: Session, template: AlignmentTemplate) -> None:
        """Wrap a session.

        Args:
            session: Session that was loaded with `EMBEDDER_OUTPUTS`.
            template: Alignment template that the recognizer was trained on.
        """
        self.session = session
        self.template = template

    def embed(self, crops: NDArray[np.uint8], deadline: Deadline | None = None) -> Embeddings:
        """Embed aligned crops.

        Args:
            crops: (N, H, W, 3) uint8, RGB, aligned to `template`, N at least 1.
            deadline: Deadline of the request.

        Raises:
            InferenceFailed: The engine failed or returned a number that is not finite.
            RequestCancelled: The client disconnected.
            DeadlineExceeded: The time limit is exceeded.
        """
        embedding, norm = self.session.run(crops, deadline)
        return Embeddings(embedding, norm)
