"""The model under evaluation: the serving pipeline, its embedding cache and its conditions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from models.alignment import AlignmentTemplate
from models.artefact.digests import value_digest
from models.detection.policy import FacePolicy
from models.evaluation.acquire.acquisition import Acquisition, FromPhotos
from models.evaluation.acquire.embedding_cache import EmbeddingCache
from models.evaluation.acquire.embedding_run import EmbeddingRun, conditions_of
from models.evaluation.acquire.pictures import FaceTable, Picture, require_present
from models.pipeline import PIPELINE_REVISION
from models.serving.models import Models
from models.types import Progress, no_progress


class EvaluatedModel:
    """A loaded model, ready to be measured."""

    def __init__(
        self,
        models: Models,
        cache: Path | None = None,
        progress: Progress = no_progress,
        max_missing: int = 0,
        artefact: Path | None = None,
    ) -> None:
        """Prepare a loaded model for measurement.

        Args:
            models: The loaded models, as they run in the service.
            cache: Directory of the embedding cache; without it, embeddings are not cached.
            progress: Called as work completes.
            max_missing: Maximum number of files of a set that may be missing.
            artefact: Path of the exported recognizer, if the recognizer is not part of a pack.
        """
        self.models, self.progress, self.max_missing, self.artefact = models, progress, max_missing, artefact
        self._cache = cache

    @property
    def template(self) -> AlignmentTemplate:
        """The alignment template of the recognizer."""
        return self.models.pipeline.template

    @property
    def has_mirror(self) -> bool:
        """Whether the graph itself embeds the mirror image as well."""
        return self.models.recognizer.mirrors

    def photos(self, policy: FacePolicy) -> FromPhotos:
        """Return the acquisition from photos to crops, with the steps of the service."""
        detector, session = self.models.detector, self.models.detector_session
        detector_conditions = {
            "pipeline": PIPELINE_REVISION,
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
        return FromPhotos(self.models.pipeline, policy, detector_conditions)

    @contextmanager
    def run(self, acquisition: Acquisition, mirror: bool = False) -> Iterator[EmbeddingRun]:
        """Yield an embedding run of an acquisition and the recognizer, and close its cache afterwards."""
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
            SetIncomplete: More pictures are missing than `max_missing`.
        """
        require_present(pictures, self.max_missing)
        with self.run(acquisition, mirror) as run:
            dimensions = self.models.recognizer.dimensions
            return run.table(pictures, dimensions, step, self.progress)

    def conditions(self, **more: Any) -> dict[str, Any]:
        """Return the conditions of a measurement: recognizer, contract, runtime, and `more`."""
        return {
            "recognizer": self.models.recognizer.name,
            "contract_id": self.models.contract_id,
            "mirror_in_graph": self.has_mirror,
            **self.models.running,
            **more,
        }
