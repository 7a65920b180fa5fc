"""Readers of the user's pictures: a folder for each subject, CSV lists of pictures or pairs, and cohorts."""

import csv
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable
from models.evaluation.acquire.pictures import Picture
from models.photo_folders import find_folders, listed

_TRUE, _FALSE = {"1", "true", "yes", "same", "mated"}, {"0", "false", "no", "different", "non-mated", "nonmated"}
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs"}


class PictureSet(NamedTuple):
    """Pictures of known subjects.

    Attributes:
        name: Name of the set in reports.
        pictures: N pictures.
        subjects: Name of the subject of each picture.
        empty: Names of the subjects without pictures.
        notes: Sentences for the user about what was read and what was passed over.
        unreadable: Number of files and folders that could not be read.
    """

    name: str
    pictures: list[Picture]
    subjects: list[str]
    empty: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    unreadable: int = 0

    def numbers(self) -> NDArray[np.int64]:
        """Return (N,) int64, the number of each picture's subject, counted from 0 in the order of subject names."""
        return np.unique(self.subjects, return_inverse=True)[1].astype(np.int64)

    def where(self, chosen: NDArray[np.bool_]) -> "PictureSet":
        """Return a set of the chosen pictures only.

        Args:
            chosen: (N,) bool.
        """
        indices = np.flatnonzero(chosen).tolist()
        pictures, subjects = [self.pictures[i] for i in indices], [self.subjects[i] for i in indices]
        return self._replace(pictures=pictures, subjects=subjects)

    def without(self, used: Iterable[str]) -> list[str]:
        """Return the sorted names of the subjects that are not among the used ones, also those without pictures."""
        return sorted({*self.subjects, *self.empty} - set(used))


class PairSet(NamedTuple):
    """Pairs of pictures.

    Attributes:
        name: Name of the set in reports.
        pictures: N pictures, each once.
        first, second: (P,) int32, indices in `pictures`.
        mated: (P,) bool, whether both pictures of a pair show the same subject.
        notes: Sentences for the user about what was read.
    """

    name: str
    pictures: list[Picture]
    first: NDArray[np.int32]
    second: NDArray[np.int32]
    mated: NDArray[np.bool_]
    notes: tuple[str, ...] = ()


Cohorts = dict[str, list[str | None]]
"""For each attribute, the value of every picture; None for a picture without a value."""


def read_folders(directory: Path) -> PictureSet:
    """Read a directory with one folder for each subject, which holds photos directly or in subfolders.

    Hidden and system files and folders, and files that are no photos, are passed over and counted in the notes.

    Raises:
        SetUnreadable: The directory does not exist, cannot be read, or has no folders with photos.
    """
    if not directory.is_dir():
        raise SetUnreadable(f"the directory {directory.name} does not exist")
    try:
        found = find_folders(directory)
    except OSError as error:
        raise SetUnreadable(f"the directory {directory.name} cannot be read: {error.strerror}") from error
    pictures, subjects = [], []
    for folder, paths in found.photos.items():
        pictures += [Picture(str(path.relative_to(directory)), path) for path in paths]
        subjects += [_composed(folder)] * len(paths)
    passed_over = str(found.passed_over)
    if not pictures:
        because = f" ({passed_over})" if passed_over else ""
        raise SetUnreadable(
            f"{directory.name} has no folders with photos; one folder for each subject is required{because}"
        )
    empty = {_composed(folder) for folder in found.photos} - set(subjects)
    return PictureSet(
        directory.name,
        pictures,
        subjects,
        tuple(sorted(empty)),
        (*([passed_over] if passed_over else []), *_remarks_on_names(found.photos)),
        found.passed_over.unreadable,
    )


def read_listed(path: Path, directory: Path) -> PictureSet:
    """Read a CSV file with the columns `image` (path relative to `directory`) and `subject`.

    Raises:
        SetUnreadable: The file is missing, is empty or lacks a column, or a row has no image or subject.
    """
    rows = _rows(path, ("image", "subject"))
    _require_values(path, rows, ("image", "subject"))
    pictures = [Picture(row["image"], directory / row["image"]) for row in rows]
    names = [row["subject"] for row in rows]
    return PictureSet(path.stem, pictures, [*map(_composed, names)], notes=tuple(_remarks_on_names(names)))


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
        SetUnreadable: The file is missing, is empty or lacks a column, a value is missing, the `mated` of a pair has
            another value, or a pair is listed both as mated and as non-mated, or has the same picture twice, also
            under two paths.
    """
    rows = _rows(path, ("first", "second", "mated"))
    _require_values(path, rows, ("first", "second", "mated"))
    listed_names = {row[side] for row in rows for side in ("first", "second")}
    file_of = {name: _file(directory / name) for name in listed_names}
    name_of = {file_of[name]: name for name in sorted(listed_names, reverse=True)}  # the first of several paths
    names = sorted(name_of.values())
    positions = {name: index for index, name in enumerate(names)}
    index_of = {name: positions[name_of[file]] for name, file in file_of.items()}
    mated_of: dict[tuple[int, int], bool] = {}
    for number, row in enumerate(rows, start=2):
        value = row["mated"].strip().lower()
        if value not in _TRUE | _FALSE:
            raise SetUnreadable(f"line {number} of {path.name}: mated is {row['mated']!r}, expected 1 or 0")
        first, second = index_of[row["first"]], index_of[row["second"]]
        if first == second:
            raise SetUnreadable(f"line {number} of {path.name}: the pair has the same picture twice")
        if mated_of.get((second, first), mated_of.get((first, second), value in _TRUE)) != (value in _TRUE):
            raise SetUnreadable(f"line {number} of {path.name}: the pair was listed as mated and as non-mated")
        if (second, first) not in mated_of:
            mated_of[first, second] = value in _TRUE
    repeated = len(rows) - len(mated_of)
    pairs = np.array(list(mated_of), np.int32)
    return PairSet(
        path.stem,
        [Picture(name, directory / name) for name in names],
        pairs[:, 0],
        pairs[:, 1],
        np.array(list(mated_of.values()), np.bool_),
        (f"{repeated:,} rows repeat a pair; each pair counts once",) if repeated else (),
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
    row_of = {row[key_column] if key_column == "image" else _composed(row[key_column]): row for row in rows}
    keys = names if key_column == "image" else subjects or ()
    if not any(key in row_of for key in keys):
        raise SetUnreadable(f"{path.name} lists no {key_column} of this set")
    return {
        attribute: [(row_of[key][attribute] or None) if key in row_of else None for key in keys]
        for attribute in attributes
    }


def _require_values(path: Path, rows: list[dict[str, str]], columns: Sequence[str]) -> None:
    for number, row in enumerate(rows, start=2):
        for column in columns:
            if not row.get(column, "").strip():
                raise SetUnreadable(f"line {number} of {path.name} has no {column}")
            if column == "subject" and row[column] != row[column].strip():
                raise SetUnreadable(f"line {number} of {path.name}: the subject begins or ends with a space")


def _file(path: Path) -> Path:
    """Return the path of a file without links and dots; paths that name no file stay as they are."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path


def _composed(name: str) -> str:
    """Return the name of a subject in Unicode's composed form (NFC), as galleries store it; macOS stores the other."""
    return unicodedata.normalize("NFC", name)


def _remarks_on_names(names: Collection[str]) -> list[str]:
    """Return sentences about names that differ in their Unicode form or in case only, or that are not UTF-8."""
    spellings: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name in names:
        composed = _composed(name)
        spellings[composed.casefold()][composed].add(name)
    sentences = []
    if undecodable := sorted({name for name in names if any("\ud800" <= character <= "\udfff" for character in name)}):
        sentences.append(f"names that are not UTF-8, which galleries refuse; rename them: {listed(undecodable)}")
    for alike in spellings.values():
        for composed, forms in alike.items():
            if len(forms) > 1:
                sentences.append(f"one subject in {len(forms)} Unicode forms of the same name: {listed([composed])}")
        if len(alike) > 1:
            sentences.append(f"{len(alike)} subjects whose names differ in case only: {listed(sorted(alike))}")
    return sentences


def remarks_on_strangers(gallery: PictureSet, probes: PictureSet) -> list[str]:
    """Return a sentence about subjects of probes whose names differ from one of the gallery in case only, if any."""
    enrolled = {*gallery.subjects, *gallery.empty}
    spellings = defaultdict(list)
    for name in sorted(enrolled):
        spellings[name.casefold()].append(name)
    pairs = [
        f"{name} and {other}"
        for name in sorted({*probes.subjects} - enrolled)
        for other in spellings.get(name.casefold(), ())
    ]
    if not pairs:
        return []
    return [f"probes and gallery have names that differ in case only, which count as two subjects: {listed(pairs)}"]


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    if path.is_char_device() or path.is_block_device():
        raise SetUnreadable(f"{path.name} cannot be read as CSV: it is a device")  # whose end may never come
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{name: value or "" for name, value in row.items() if name} for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SetUnreadable(f"{path.name} cannot be read as CSV: {error}") from error
    if not rows or not set(columns) <= set(rows[0]):
        *others, last = [f"`{column}`" for column in columns] or [""]
        listed = f"{', '.join(others)} and {last}" if others else last
        header = f"a header line with the columns {listed}," if columns else "a header line"
        names = " ".join(rows[0]) if rows else ""
        used = next((word for sign, word in _OTHER_DELIMITERS.items() if sign in names), None)
        because = f"; its columns are separated by {used}, not by commas" if used else ""
        raise SetUnreadable(f"{path.name} needs {header} and at least one line below it{because}")
    return rows
