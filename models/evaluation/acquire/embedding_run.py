"""Every picture of a set to its embedding: some at a time, in order, with what is known from before."""

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.embedding import Embedder
from models.errors import PictureMissing, VultusError
from models.evaluation.acquire.acquisition import Acquisition, Crop, Landmarked
from models.evaluation.acquire.embedding_cache import EmbeddingCache, Known, KnownFace, KnownFailure
from models.evaluation.acquire.pictures import FaceTable, Failure, Picture
from models.types import Progress, no_progress

_GROUP = 32  # pictures; the largest batch that engines take at once
_SIDE_BY_SIDE = 2  # groups; while one is embedded the other is decoded


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What became of some pictures that follow each other.

    Attributes:
        start: Place of the first.
        outcomes: For each, in order.
        contents: Digest of each file; None where there was none.
        inferred: How many were not known from before.
    """

    start: int
    outcomes: list[Known]
    contents: list[bytes | None]
    inferred: int


class EmbeddingRun:
    """Makes embeddings of pictures, by the steps and the engine that serve."""

    def __init__(
        self, acquisition: Acquisition, embedder: Embedder, cache: EmbeddingCache | None = None, mirror: bool = False
    ) -> None:
        """Join the steps.

        Args:
            acquisition: From pictures to crops.
            embedder: From crops to embeddings.
            cache: What is known from before; its conditions must be those of the two.
            mirror: Whether the mirror image is embedded as a second view.
        """
        self._acquisition, self._embedder, self._cache, self._mirror = acquisition, embedder, cache, mirror

    def groups(
        self, pictures: Sequence[Picture], step: str = "embedding", progress: Progress = no_progress
    ) -> Iterator[Group]:
        """Embed pictures group by group, in order; memory does not grow with their number.

        Args:
            pictures: Of the set.
            step: What `progress` calls it.
            progress: Called after each group.

        Raises:
            InferenceFailed: The engine failed.
            CacheFailed: What is known cannot be read or written.
        """
        starts = iter(range(0, len(pictures), _GROUP))
        waiting: deque[Future[Group]] = deque()
        with ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="evaluate") as workers:
            try:
                while True:
                    for start in islice(starts, _SIDE_BY_SIDE + 1 - len(waiting)):
                        waiting.append(workers.submit(self._group, start, pictures[start : start + _GROUP]))
                    if not waiting:
                        return
                    group = waiting.popleft().result()
                    yield group
                    progress(step, group.start + len(group.outcomes), len(pictures))
            finally:  # of an interrupt or an error too: what has not begun never does
                for future in waiting:
                    future.cancel()

    def table(
        self,
        pictures: Sequence[Picture],
        dimensions: int,
        step: str = "embedding",
        progress: Progress = no_progress,
    ) -> FaceTable:
        """Embed pictures and keep all of it: embeddings of so many numbers. See `groups`."""
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
            for place, (outcome, content) in enumerate(
                zip(group.outcomes, group.contents, strict=True), start=group.start
            ):
                contents[place] = content
                if isinstance(outcome, KnownFailure):
                    failures.append(Failure(pictures[place].name, outcome.code, outcome.reason))
                    continue
                embedding[place], _ = add_views(outcome)
                norms[place], geometry[place], found[place] = outcome.norms, outcome.geometry, True
        names = [picture.name for picture in pictures]
        return FaceTable(names, embedding, norms, found, geometry, contents, failures, inferred)

    def _group(self, start: int, pictures: Sequence[Picture]) -> Group:
        outcomes: dict[int, Known] = {}
        contents: dict[int, bytes] = {}
        files: dict[int, bytes] = {}
        for place, picture in enumerate(pictures):
            try:
                files[place] = picture.source if isinstance(picture.source, bytes) else picture.source.read_bytes()
            except (OSError, ValueError) as error:  # the latter of a name that no file can have
                why = getattr(error, "strerror", None) or error
                outcomes[place] = KnownFailure(PictureMissing.code, f"the file cannot be read: {why}")
                continue
            contents[place] = _digest(files[place], picture.landmarks)
        known = self._cache.read(list(set(contents.values()))) if self._cache else {}
        wanted = {content: place for place, content in contents.items() if content not in known}
        if wanted:
            made = self._make(wanted, files, pictures)
            if self._cache:
                self._cache.write(made)
            known |= made
        outcomes |= {place: known[content] for place, content in contents.items()}
        places = range(len(pictures))
        return Group(
            start, [outcomes[place] for place in places], [contents.get(place) for place in places], len(wanted)
        )

    def _make(
        self, wanted: dict[bytes, int], files: dict[int, bytes], pictures: Sequence[Picture]
    ) -> dict[bytes, Known]:
        given: list[bytes | Landmarked] = []
        for place in wanted.values():
            landmarks = pictures[place].landmarks
            given.append(files[place] if landmarks is None else Landmarked(files[place], landmarks))
        crops = dict(zip(wanted, self._acquisition.crops(given), strict=True))
        ready = {content: crop for content, crop in crops.items() if isinstance(crop, Crop)}
        made: dict[bytes, Known] = {
            content: KnownFailure(crop.code, str(crop))
            for content, crop in crops.items()
            if isinstance(crop, VultusError)
        }
        if not ready:
            return made
        views = [np.stack([crop.pixels for crop in ready.values()])]
        if self._mirror:
            views.append(np.ascontiguousarray(views[0][:, :, ::-1]))
        embedded = [self._embedder.embed(view) for view in views]
        for place, (content, crop) in enumerate(ready.items()):
            embeddings = np.stack([view.embedding[place] for view in embedded])
            made[content] = KnownFace(embeddings, np.array([view.norm[place] for view in embedded]), crop.geometry)
        return made


def add_views(face: KnownFace) -> tuple[NDArray[np.float32], float]:
    """Add the embeddings of a face's views before normalisation, as the official evaluations do.

    Returns:
        (D,) float32 of length 1, and the length of the sum.
    """
    if len(face.norms) == 1:
        return face.embeddings[0], float(face.norms[0])
    total = (face.embeddings.astype(np.float64) * face.norms[:, None]).sum(axis=0)
    length = float(np.linalg.norm(total))
    return (total / max(length, np.finfo(np.float64).tiny)).astype(np.float32), length


def conditions_of(acquisition: Acquisition, recognizer: dict[str, Any], mirror: bool) -> dict[str, Any]:
    """List all that an embedding depends on beside the picture."""
    return {**acquisition.conditions, "recognizer": recognizer, "mirror": mirror}


def _digest(encoded: bytes, landmarks: NDArray[np.float32] | None) -> bytes:
    digest = hashlib.sha256(encoded)
    if landmarks is not None:
        digest.update(landmarks.astype("<f4").tobytes())
    return digest.digest()
