"""The pictures of a set, and what became of them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetIncomplete

_SHOWN = 10


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture of a set.

    Attributes:
        name: What reports call it; relative to the set's directory.
        source: A file, or the file's content.
        landmarks: (5, 2) float32, pixels, where the set gives them.
    """

    name: str
    source: Path | bytes
    landmarks: NDArray[np.float32] | None = None


class Failure(NamedTuple):
    """A picture that gave no embedding, and why: a failure to acquire, or a file that is missing."""

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class FaceTable:
    """The faces of N pictures, one each.

    Attributes:
        names: Of the pictures.
        embedding: (N, D) float32 of length 1, views added; zero where there is no face.
        norms: (N, V) float32, the length of each view's embedding before normalisation; NaN where there is no face.
        found: (N,) whether there is a face.
        geometry: (N, 3) float32, see `models.quality.FaceGeometry`.
        contents: Digest of each file.
        failures: Of those without.
        inferred: How many were not known from before.
    """

    names: list[str]
    embedding: NDArray[np.float32]
    norms: NDArray[np.float32]
    found: NDArray[np.bool_]
    geometry: NDArray[np.float32]
    contents: list[bytes | None]
    failures: list[Failure] = field(default_factory=list)
    inferred: int = 0

    def where(self, chosen: NDArray[np.bool_]) -> "FaceTable":
        """Keep the pictures that are chosen, (N,); failures are not among them."""
        return FaceTable(
            [name for name, keep in zip(self.names, chosen, strict=True) if keep],
            self.embedding[chosen],
            self.norms[chosen],
            self.found[chosen],
            self.geometry[chosen],
            [content for content, keep in zip(self.contents, chosen, strict=True) if keep],
            [],
            self.inferred,
        )


def same_files(contents: Sequence[bytes | None]) -> list[list[int]]:
    """Return the places of files that are there several times, by the digests of their content."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for place, content in enumerate(contents):
        if content is not None:
            places[content].append(place)
    return [group for group in places.values() if len(group) > 1]


def require_present(pictures: Sequence[Picture], most_missing: int) -> list[str]:
    """Look for all files of a set before any work is done on it.

    Returns:
        Names of those that are missing.

    Raises:
        SetIncomplete: They are more than `most_missing`.
    """
    missing = [
        picture.name for picture in pictures if isinstance(picture.source, Path) and not _is_file(picture.source)
    ]
    if len(missing) > most_missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise SetIncomplete(
            f"{len(missing):,} of {len(pictures):,} pictures are missing, at most {most_missing:,} may be: {shown}"
        )
    return missing


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # of a name that no file can have
        return False
