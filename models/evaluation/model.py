"""A model under evaluation: what serves, with what is known from before, and how it is described."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.alignment import Template
from models.artefact.digests import value_digest
from models.detection.policy import FacePolicy
from models.evaluation.acquire.acquisition import Acquisition, FromPhotos
from models.evaluation.acquire.embedding_cache import EmbeddingCache
from models.evaluation.acquire.embedding_run import EmbeddingRun, conditions_of
from models.evaluation.acquire.pictures import FaceTable, Picture, require_present
from models.serving.models import Models
from models.types import Progress, no_progress


class EvaluatedModel:
    """What serves, ready to be measured."""

    def __init__(
        self,
        models: Models,
        cache: Path | None = None,
        progress: Progress = no_progress,
        most_missing: int = 0,
        artefact: Path | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            models: What serves.
            cache: Directory of known embeddings; none are kept without it.
            progress: Called as work gets done.
            most_missing: How many files of a set may be missing.
            artefact: Where its recognizer was exported to, if it is not a pack's.
        """
        self.models, self.progress, self.most_missing, self.artefact = models, progress, most_missing, artefact
        self._cache = cache

    @property
    def template(self) -> Template:
        """The alignment template of the recognizer."""
        return self.models.pipeline.template

    @property
    def has_mirror(self) -> bool:
        """Whether the graph itself embeds the mirror image too."""
        return self.models.recognizer.mirrors

    def photos(self, policy: FacePolicy) -> FromPhotos:
        """Return the way from photos to crops that serves."""
        detector, session = self.models.detector, self.models.detector_session
        about = {
            "family": detector.family,
            "weights": detector.weights,
            "conversion": detector.conversion,
            "engine": session.engine,
            "version": session.version,
            "provider": session.provider,
            "precision": session.precision,
            "max_side_px": self.models.pipeline.detector.max_side_px,
            "limits": asdict(self.models.pipeline.limits),
        }
        return FromPhotos(self.models.pipeline, policy, about)

    @contextmanager
    def run(self, acquisition: Acquisition, mirror: bool = False) -> Iterator[EmbeddingRun]:
        """Join a way to crops, the recognizer and what is known of both, until the block ends."""
        session = self.models.embedder_session
        recognizer = {
            "contract_id": self.models.contract_id,
            "files": value_digest(self.models.recognizer.files),
            "engine": session.engine,
            "version": session.version,
            "provider": session.provider,
            "precision": session.precision,
        }
        cache = None
        if self._cache is not None:
            cache = EmbeddingCache(self._cache, conditions_of(acquisition, recognizer, mirror))
        try:
            yield EmbeddingRun(acquisition, self.models.pipeline.embedder, cache, mirror)
        finally:
            if cache is not None:
                cache.close()

    def embed(
        self, acquisition: Acquisition, pictures: Sequence[Picture], step: str = "embedding", mirror: bool = False
    ) -> FaceTable:
        """Embed the pictures of a set.

        Raises:
            SetIncomplete: More of them are missing than may be.
        """
        require_present(pictures, self.most_missing)
        with self.run(acquisition, mirror) as run:
            dimensions = self.models.recognizer.dimensions
            return run.table(pictures, dimensions, step, self.progress)

    def conditions(self, **more: Any) -> dict[str, Any]:
        """Describe what is measured."""
        return {
            "recognizer": self.models.recognizer.name,
            "contract_id": self.models.contract_id,
            "mirror_in_graph": self.has_mirror,
            **self.models.running,
            **more,
        }
