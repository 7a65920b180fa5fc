"""A model under evaluation: what serves, with what is known from before, and how it is described."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.alignment import Template
from models.assembly import Models
from models.cropping import FacePolicy
from models.digests import value_digest
from models.evaluation.acquisition import Acquisition, FromPhotos
from models.evaluation.embedding_cache import EmbeddingCache
from models.evaluation.embedding_run import EmbeddingRun, conditions_of
from models.evaluation.pictures import FaceTable, Picture, require_present

Tell = Callable[[str, int, int], None]


class EvaluatedModel:
    """What serves, ready to be measured."""

    def __init__(
        self,
        models: Models,
        cache: Path | None = None,
        tell: Tell = lambda *_: None,
        most_missing: int = 0,
        artefact: Path | None = None,
    ) -> None:
        """Take a loaded model.

        Args:
            models: What serves.
            cache: Directory of known embeddings; none are kept without it.
            tell: Told what is done, and how many of how many.
            most_missing: How many files of a set may be missing.
            artefact: Where its recognizer was exported to, if it is not a pack's.
        """
        self.models, self.tell, self.most_missing, self.artefact = models, tell, most_missing, artefact
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
        self, acquisition: Acquisition, pictures: Sequence[Picture], what: str = "embedding", mirror: bool = False
    ) -> FaceTable:
        """Embed the pictures of a set.

        Raises:
            SetIncomplete: More of them are missing than may be.
        """
        require_present(pictures, self.most_missing)
        with self.run(acquisition, mirror) as run:
            dimensions = self.models.recognizer.dimensions
            return run.table(pictures, dimensions, lambda done, count: self.tell(what, done, count))

    def conditions(self, **more: Any) -> dict[str, Any]:
        """Describe what is measured."""
        return {
            "recognizer": self.models.recognizer.name,
            "contract_id": self.models.contract_id,
            "mirror_in_graph": self.has_mirror,
            **self.models.running,
            **more,
        }
