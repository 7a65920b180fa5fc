"""The user's own pictures: a folder for each subject, lists as CSV, a gallery and probes, and cohorts."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable
from models.evaluation.acquire.pictures import Picture
from models.imaging import SUFFIXES

_TRUE, _FALSE = {"1", "true", "yes", "same", "mated"}, {"0", "false", "no", "different", "non-mated", "nonmated"}


class PictureSet(NamedTuple):
    """Pictures whose subjects are known.

    Attributes:
        name: For people.
        pictures: N of them.
        subjects: (N,) names.
    """

    name: str
    pictures: list[Picture]
    subjects: list[str]

    def numbers(self) -> NDArray[np.int64]:
        """Return the number of the subject of each picture."""
        return np.unique(self.subjects, return_inverse=True)[1].astype(np.int64)

    def where(self, chosen: NDArray[np.bool_]) -> "PictureSet":
        """Keep the pictures that are chosen, (N,)."""
        kept = np.flatnonzero(chosen).tolist()
        return PictureSet(self.name, [self.pictures[place] for place in kept], [self.subjects[place] for place in kept])


class PairSet(NamedTuple):
    """Pairs of pictures.

    Attributes:
        name: For people.
        pictures: N of them, each once.
        first, second: (P,) places in `pictures`.
        mated: (P,) whether a pair is of one subject.
    """

    name: str
    pictures: list[Picture]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    mated: NDArray[np.bool_]


Cohorts = dict[str, list[str | None]]


def read_folders(directory: Path) -> PictureSet:
    """Read a folder for each subject, with photos in it or in folders below it.

    Raises:
        SetUnreadable: There are none.
    """
    if not directory.is_dir():
        raise SetUnreadable(f"there is no directory {directory.name}")
    pictures, subjects = [], []
    for folder in sorted(directory.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    pictures.append(Picture(str(path.relative_to(directory)), path))
                    subjects.append(folder.name)
    if not pictures:
        raise SetUnreadable(
            f"{directory.name} has no folders with photos in them; one folder for each subject is needed"
        )
    return PictureSet(directory.name, pictures, subjects)


def read_listed(path: Path, directory: Path) -> PictureSet:
    """Read a CSV with the columns `image` and `subject`; images are relative to a directory.

    Raises:
        SetUnreadable: It is absent, empty or lacks a column.
    """
    rows = _rows(path, ("image", "subject"))
    pictures = [Picture(row["image"], directory / row["image"]) for row in rows]
    return PictureSet(path.stem, pictures, [row["subject"] for row in rows])


def read_set(directory: Path, listed: Path | None) -> PictureSet:
    """Read pictures of known subjects: listed ones, or a folder for each subject."""
    return read_listed(listed, directory) if listed else read_folders(directory)


def read_pair_list(path: Path, directory: Path) -> PairSet:
    """Read a CSV with the columns `first`, `second` and `mated` (1 or 0, true or false, yes or no).

    Raises:
        SetUnreadable: It is absent, empty, lacks a column, or says something else of a pair.
    """
    rows = _rows(path, ("first", "second", "mated"))
    names = sorted({row[side] for row in rows for side in ("first", "second")})
    place = {name: number for number, name in enumerate(names)}
    mated = []
    for number, row in enumerate(rows, start=2):
        word = row["mated"].strip().lower()
        if word not in _TRUE | _FALSE:
            raise SetUnreadable(f"line {number} of {path.name}: mated is {row['mated']!r}, neither 1 nor 0")
        mated.append(word in _TRUE)
    return PairSet(
        path.stem,
        [Picture(name, directory / name) for name in names],
        np.array([place[row["first"]] for row in rows], np.int32),
        np.array([place[row["second"]] for row in rows], np.int32),
        np.array(mated, np.bool_),
    )


def read_cohorts(path: Path, names: Sequence[str], subjects: Sequence[str] | None) -> Cohorts:
    """Read a CSV with a column `image` or `subject`, and others, each a way to divide people.

    Args:
        path: The file.
        names: Of the pictures.
        subjects: Of each picture, if known.

    Returns:
        For each of the other columns the value of every picture; None where it has none.

    Raises:
        SetUnreadable: It is absent, empty, lacks a column, or speaks of nobody here.
    """
    rows = _rows(path, ())
    key = next((one for one in ("image", "subject") if one in rows[0]), None)
    ways = [column for column in rows[0] if column not in ("image", "subject")]
    if key is None or not ways:
        raise SetUnreadable(f"{path.name} needs a column `image` or `subject`, and at least one more")
    if key == "subject" and subjects is None:
        raise SetUnreadable(f"{path.name} goes by subject, but this set does not name them; give a column `image`")
    of = {row[key]: row for row in rows}
    keys = names if key == "image" else subjects or ()
    if not any(one in of for one in keys):
        raise SetUnreadable(f"{path.name} speaks of no {key} of this set")
    return {way: [(of[one][way] or None) if one in of else None for one in keys] for way in ways}


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetUnreadable(f"{path.name} cannot be read as CSV: {error}") from error
    if not rows or not set(columns) <= set(rows[0]):
        *most, last = (f"`{column}`" for column in columns) if columns else ["that it has"]
        wanted = f"{', '.join(most)} and {last}" if most else last
        raise SetUnreadable(f"{path.name} needs a first line with the columns {wanted}, and lines below it")
    return rows
