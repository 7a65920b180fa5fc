"""Readers of the user's pictures: a folder for each subject, CSV lists of pictures or pairs, and cohorts."""

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
    """Pictures of known subjects.

    Attributes:
        name: Name of the set in reports.
        pictures: N pictures.
        subjects: Name of the subject of each picture.
    """

    name: str
    pictures: list[Picture]
    subjects: list[str]

    def numbers(self) -> NDArray[np.int64]:
        """Return (N,) int64, the number of each picture's subject, counted from 0 in the order of subject names."""
        return np.unique(self.subjects, return_inverse=True)[1].astype(np.int64)

    def where(self, chosen: NDArray[np.bool_]) -> "PictureSet":
        """Return a set of the chosen pictures only.

        Args:
            chosen: (N,) bool.
        """
        indices = np.flatnonzero(chosen).tolist()
        return PictureSet(self.name, [self.pictures[i] for i in indices], [self.subjects[i] for i in indices])


class PairSet(NamedTuple):
    """Pairs of pictures.

    Attributes:
        name: Name of the set in reports.
        pictures: N pictures, each once.
        first, second: (P,) int32, indices in `pictures`.
        mated: (P,) bool, whether both pictures of a pair show the same subject.
    """

    name: str
    pictures: list[Picture]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    mated: NDArray[np.bool_]


Cohorts = dict[str, list[str | None]]
"""For each attribute, the value of every picture; None for a picture without a value."""


def read_folders(directory: Path) -> PictureSet:
    """Read a directory with one folder for each subject, which holds photos directly or in subfolders.

    Raises:
        SetUnreadable: The directory does not exist or has no folders with photos.
    """
    if not directory.is_dir():
        raise SetUnreadable(f"the directory {directory.name} does not exist")
    pictures, subjects = [], []
    for folder in sorted(directory.iterdir()):
        if folder.is_dir() and not folder.name.startswith("."):
            for path in sorted(folder.rglob("*")):
                if path.suffix.lower() in SUFFIXES and path.is_file():
                    pictures.append(Picture(str(path.relative_to(directory)), path))
                    subjects.append(folder.name)
    if not pictures:
        raise SetUnreadable(f"{directory.name} has no folders with photos; one folder for each subject is required")
    return PictureSet(directory.name, pictures, subjects)


def read_listed(path: Path, directory: Path) -> PictureSet:
    """Read a CSV file with the columns `image` (path relative to `directory`) and `subject`.

    Raises:
        SetUnreadable: The file is missing, is empty or lacks a column.
    """
    rows = _rows(path, ("image", "subject"))
    pictures = [Picture(row["image"], directory / row["image"]) for row in rows]
    return PictureSet(path.stem, pictures, [row["subject"] for row in rows])


def read_set(directory: Path, listed: Path | None) -> PictureSet:
    """Read pictures of known subjects.

    Args:
        directory: Directory of the pictures.
        listed: CSV file for `read_listed`; without it, `read_folders` reads the directory.

    Raises:
        SetUnreadable: See `read_listed` and `read_folders`.
    """
    return read_listed(listed, directory) if listed else read_folders(directory)


def read_pair_list(path: Path, directory: Path) -> PairSet:
    """Read a CSV file with the columns `first`, `second` (paths relative to `directory`) and `mated`.

    `mated` is 1, true, yes, same or mated for mated pairs, and 0, false, no, different, non-mated or nonmated for
    non-mated pairs.

    Raises:
        SetUnreadable: The file is missing, is empty or lacks a column, or the `mated` of a pair has another value.
    """
    rows = _rows(path, ("first", "second", "mated"))
    names = sorted({row[side] for row in rows for side in ("first", "second")})
    index_of = {name: index for index, name in enumerate(names)}
    mated = []
    for number, row in enumerate(rows, start=2):
        value = row["mated"].strip().lower()
        if value not in _TRUE | _FALSE:
            raise SetUnreadable(f"line {number} of {path.name}: mated is {row['mated']!r}, expected 1 or 0")
        mated.append(value in _TRUE)
    return PairSet(
        path.stem,
        [Picture(name, directory / name) for name in names],
        np.array([index_of[row["first"]] for row in rows], np.int32),
        np.array([index_of[row["second"]] for row in rows], np.int32),
        np.array(mated, np.bool_),
    )


def read_cohorts(path: Path, names: Sequence[str], subjects: Sequence[str] | None) -> Cohorts:
    """Read a CSV file with a column `image` or `subject`, and one column for each attribute that defines cohorts.

    Args:
        path: CSV file.
        names: Names of the pictures.
        subjects: Subject of each picture; None if the subjects are unknown.

    Returns:
        For each attribute, the value of every picture; None for a picture without a value.

    Raises:
        SetUnreadable: The file is missing, is empty, lacks a column, or lists no picture or subject of the set.
    """
    rows = _rows(path, ())
    key_column = next((column for column in ("image", "subject") if column in rows[0]), None)
    attributes = [column for column in rows[0] if column not in ("image", "subject")]
    if key_column is None or not attributes:
        raise SetUnreadable(f"{path.name} needs a column `image` or `subject`, and at least one more column")
    if key_column == "subject" and subjects is None:
        raise SetUnreadable(
            f"{path.name} lists subjects, but this set does not name its subjects; use a column `image` instead"
        )
    row_of = {row[key_column]: row for row in rows}
    keys = names if key_column == "image" else subjects or ()
    if not any(key in row_of for key in keys):
        raise SetUnreadable(f"{path.name} lists no {key_column} of this set")
    return {
        attribute: [(row_of[key][attribute] or None) if key in row_of else None for key in keys]
        for attribute in attributes
    }


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetUnreadable(f"{path.name} cannot be read as CSV: {error}") from error
    if not rows or not set(columns) <= set(rows[0]):
        *others, last = [f"`{column}`" for column in columns] or [""]
        listed = f"{', '.join(others)} and {last}" if others else last
        header = f"a header line with the columns {listed}," if columns else "a header line"
        raise SetUnreadable(f"{path.name} needs {header} and at least one line below it")
    return rows
