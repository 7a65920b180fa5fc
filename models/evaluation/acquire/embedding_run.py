"""Embedding of the pictures of a set: in groups, in order, with a cache of earlier runs."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedding import Embedder
from models.errors import ImageMissing, ImageTooManyBytes, VultusError
from models.evaluation.acquire.acquisition import Acquisition, Crop, Landmarked
from models.evaluation.acquire.embedding_cache import Cached, CachedFace, CachedFailure, EmbeddingCache
from models.evaluation.acquire.pictures import FaceTable, Failure, Picture
from models.photo_folders import read_photo
from models.types import Progress, no_progress

_GROUP = 32  # pictures; the largest batch of the engines
_BEGINNING = 2**20  # bytes
_WORKERS = 2  # groups in parallel: one is decoded while another is embedded


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The outcomes of consecutive pictures.

    Attributes:
        start: Index of the first picture.
        outcomes: Face or failure of each picture, in order.
        contents: Digest of each file; None if the file cannot be read.
        inferred: Number of pictures that were not in the cache.
    """

    start: int
    outcomes: list[Cached]
    contents: list[bytes | None]
    inferred: int


class EmbeddingRun:
    """A run that embeds pictures with the pipeline and the engine that also serve requests."""

    def __init__(
        self, acquisition: Acquisition, embedder: Embedder, cache: EmbeddingCache | None = None, mirror: bool = False
    ) -> None:
        """Initialise the run.

        Args:
            acquisition: Makes crops from pictures.
            embedder: Makes embeddings from crops.
            cache: Cache of earlier runs. Its conditions must be those of `acquisition`, the recognizer and `mirror`
                (see `conditions_of`).
            mirror: Whether the mirror image is embedded as a second view.
        """
        self._acquisition, self._embedder, self._cache, self._mirror = acquisition, embedder, cache, mirror

    def groups(
        self, pictures: Sequence[Picture], step: str = "embedding", progress: Progress = no_progress
    ) -> Iterator[Group]:
        """Embed pictures group by group, in order. Memory does not grow with the number of pictures.

        Args:
            pictures: Pictures of the set.
            step: Name of the step for `progress`.
            progress: Called after each group.

        Raises:
            InferenceFailed: The engine failed.
            CacheFailed: The cache cannot be read or written.
        """
        starts = iter(range(0, len(pictures), _GROUP))
        waiting: deque[Future[Group]] = deque()
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="evaluate") as workers:
            try:
                while True:
                    for start in islice(starts, _WORKERS + 1 - len(waiting)):
                        waiting.append(workers.submit(self._group, start, pictures[start : start + _GROUP]))
                    if not waiting:
                        return
                    group = waiting.popleft().result()
                    yield group
                    progress(step, group.start + len(group.outcomes), len(pictures))
            finally:  # after an interrupt or an error, cancel the groups that have not started
                for future in waiting:
                    future.cancel()

    def table(
        self,
        pictures: Sequence[Picture],
        dimensions: int,
        step: str = "embedding",
        progress: Progress = no_progress,
    ) -> FaceTable:
        """Embed pictures and collect all faces in one table.

        Args:
            pictures: Pictures of the set.
            dimensions: Length D of an embedding.
            step: Name of the step for `progress`.
            progress: Called after each group.

        Raises:
            InferenceFailed: The engine failed.
            CacheFailed: The cache cannot be read or written.
        """
        count, views = len(pictures), 1 + self._mirror
        contents: list[bytes | None] = [None] * count
        failures: list[Failure] = []
        norms = np.full((count, views), np.nan, np.float32)
        geometry = np.full((count, 3), np.nan, np.float32)
        found = np.zeros(count, np.bool_)
        embedding = np.zeros((count, dimensions), np.float32)
        inferred = 0
        for group in self.groups(pictures, step, progress):
            inferred += group.inferred
            for index, (outcome, content) in enumerate(
                zip(group.outcomes, group.contents, strict=True), start=group.start
            ):
                contents[index] = content
                if isinstance(outcome, CachedFailure):
                    failures.append(Failure(pictures[index].name, outcome.code, outcome.reason))
                    continue
                embedding[index], _ = add_views(outcome)
                norms[index], geometry[index], found[index] = outcome.norms, outcome.geometry, True
        names = [picture.name for picture in pictures]
        return FaceTable(names, embedding, norms, found, geometry, contents, failures, inferred)

    def _group(self, start: int, pictures: Sequence[Picture]) -> Group:
        outcomes: dict[int, Cached] = {}
        contents: dict[int, bytes] = {}
        oversize: dict[int, bytes] = {}
        files: dict[int, bytes] = {}
        for index, picture in enumerate(pictures):
            try:
                files[index] = _read(picture, self._acquisition.max_bytes)
            except ImageTooManyBytes as error:
                outcomes[index], oversize[index] = CachedFailure(error.code, str(error)), _file_digest(picture)
                continue
            except (OSError, ValueError) as error:  # ValueError: the name is not a valid file name
                why = getattr(error, "strerror", None) or error
                outcomes[index] = CachedFailure(ImageMissing.code, f"the file cannot be read: {why}")
                continue
            contents[index] = _digest(files[index], picture.landmarks)
        entries = self._cache.read(list(set(contents.values()))) if self._cache else {}
        uncached = {content: index for index, content in contents.items() if content not in entries}
        if uncached:
            computed = self._compute(uncached, files, pictures)
            if self._cache:
                self._cache.write(computed)
            entries |= computed
        outcomes |= {index: entries[content] for index, content in contents.items()}
        contents |= oversize
        indices = range(len(pictures))
        return Group(
            start, [outcomes[index] for index in indices], [contents.get(index) for index in indices], len(uncached)
        )

    def _compute(
        self, uncached: dict[bytes, int], files: dict[int, bytes], pictures: Sequence[Picture]
    ) -> dict[bytes, Cached]:
        sources: list[bytes | Landmarked] = []
        for index in uncached.values():
            landmarks = pictures[index].landmarks
            sources.append(files[index] if landmarks is None else Landmarked(files[index], landmarks))
        crops = dict(zip(uncached, self._acquisition.crops(sources), strict=True))
        ready = {content: crop for content, crop in crops.items() if isinstance(crop, Crop)}
        computed: dict[bytes, Cached] = {
            content: CachedFailure(crop.code, str(crop))
            for content, crop in crops.items()
            if isinstance(crop, VultusError)
        }
        if not ready:
            return computed
        views = [np.stack([crop.pixels for crop in ready.values()])]
        if self._mirror:
            views.append(np.ascontiguousarray(views[0][:, :, ::-1]))
        embedded = [self._embedder.embed(view) for view in views]
        for row, (content, crop) in enumerate(ready.items()):
            embeddings = np.stack([view.embedding[row] for view in embedded])
            computed[content] = CachedFace(embeddings, np.array([view.norm[row] for view in embedded]), crop.geometry)
        return computed


def add_views(face: CachedFace) -> tuple[NDArray[np.float32], float]:
    """Add the unnormalised embeddings of a face's views, as the official evaluations do.

    Returns:
        The normalised sum, (D,) float32 of length 1, and the norm of the sum.
    """
    if len(face.norms) == 1:
        return face.embeddings[0], float(face.norms[0])
    total = (face.embeddings.astype(np.float64) * face.norms[:, None]).sum(axis=0)
    length = float(np.linalg.norm(total))
    return (total / max(length, np.finfo(np.float64).tiny)).astype(np.float32), length


def conditions_of(acquisition: Acquisition, recognizer: dict[str, Any], mirror: bool) -> dict[str, Any]:
    """Return everything that an embedding depends on, except the picture.

    Args:
        acquisition: Makes crops from pictures.
        recognizer: Description of the recognizer.
        mirror: Whether the mirror image is embedded as a second view.
    """
    return {**acquisition.conditions, "recognizer": recognizer, "mirror": mirror}


def _read(picture: Picture, max_bytes: int) -> bytes:
    return picture.source if isinstance(picture.source, bytes) else read_photo(picture.source, max_bytes)


def _file_digest(picture: Picture) -> bytes:
    """Return a digest of the size and the beginning of a file that is too large to be read; copies have the same."""
    path = Path(str(picture.source))
    with path.open("rb") as file:
        return hashlib.sha256(b"%d:" % path.stat().st_size + file.read(_BEGINNING)).digest()


def _digest(encoded: bytes, landmarks: NDArray[np.float32] | None) -> bytes:
    digest = hashlib.sha256(encoded)
    if landmarks is not None:
        digest.update(landmarks.astype("<f4").tobytes())
    return digest.digest()
