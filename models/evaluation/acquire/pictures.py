"""Pictures of an evaluation set, and the faces and failures that result from them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetIncomplete

_SHOWN = 10  # names of missing files in the error sentence


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A picture of an evaluation set.

    Attributes:
        name: Name in reports; for a file, its path relative to the directory of the set.
        source: Path of the image file, or its content.
        landmarks: (5, 2) float32, pixels; None if the set holds no landmarks.
    """

    name: str
    source: Path | bytes
    landmarks: NDArray[np.float32] | None = None


class Failure(NamedTuple):
    """A picture without an embedding: a failure to acquire (ISO/IEC 19795-1) or a missing file.

    Attributes:
        name: Name of the picture.
        code: Error code.
        reason: Error sentence.
    """

    name: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class FaceTable:
    """The faces of N pictures, one for each picture.

    Attributes:
        names: Names of the pictures.
        embedding: (N, D) float32 of length 1, the sum of the views; zero without a face.
        norms: (N, V) float32, norm of each view's embedding; NaN without a face.
        found: (N,) bool, whether the picture has a face.
        geometry: (N, 3) float32, see `models.quality.FaceGeometry`; NaN without a face.
        contents: Digest of each file; None if the file cannot be read.
        failures: Pictures without a face.
        inferred: Number of pictures that were not in the cache.
    """

    names: list[str]
    embedding: NDArray[np.float32]
    norms: NDArray[np.float32]
    found: NDArray[np.bool_]
    geometry: NDArray[np.float32]
    contents: list[bytes | None]
    failures: list[Failure] = field(default_factory=list)
    inferred: int = 0

    @property
    def present(self) -> NDArray[np.bool_]:
        """(N,) bool, whether the file can be read.

        A picture that is present and has no face is a failure to acquire; one that is not present was not attempted.
        """
        return np.array([content is not None for content in self.contents], np.bool_)

    def where(self, chosen: NDArray[np.bool_]) -> "FaceTable":
        """Return a table of the chosen pictures only, without the failures.

        Args:
            chosen: (N,) bool.
        """
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


def duplicate_files(contents: Sequence[bytes | None]) -> list[list[int]]:
    """Return the indices of files with equal content, one list for each content that occurs several times.

    Args:
        contents: Digest of each file; None if the file cannot be read.
    """
    indices: dict[bytes, list[int]] = defaultdict(list)
    for index, content in enumerate(contents):
        if content is not None:
            indices[content].append(index)
    return [group for group in indices.values() if len(group) > 1]


def require_present(pictures: Sequence[Picture], max_missing: int) -> list[str]:
    """Check that the files of a set exist, before any work on the set starts.

    Args:
        pictures: Pictures of the set.
        max_missing: Maximum number of missing files.

    Returns:
        Names of the missing files.

    Raises:
        SetIncomplete: The number of missing files exceeds `max_missing`.
    """
    missing = [
        picture.name for picture in pictures if isinstance(picture.source, Path) and not _is_file(picture.source)
    ]
    if len(missing) > max_missing:
        shown = ", ".join(missing[:_SHOWN]) + (", …" if len(missing) > _SHOWN else "")
        raise SetIncomplete(
            f"{len(missing):,} of {len(pictures):,} pictures are missing; the maximum is {max_missing:,}: {shown}"
        )
    return missing


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # ValueError: the name is not a valid file name
        return False
