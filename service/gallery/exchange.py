"""Export and import of galleries as NDJSON, in the format of `exchange_format`."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.errors import VultusError
from service.errors import GalleryError, LineMalformed, SubjectFull
from service.gallery.exchange_format import end_line, header_line, subject_line, template_line
from service.gallery.exchange_reader import Entry, LineReader, merged_metadata
from service.gallery.galleries import Galleries
from service.gallery.records import Gallery, NewSubject
from service.gallery.store import gallery_rows, subject_rows, template_rows
from service.gallery.templates import store_templates

IMPORT_BATCH_LINES = 4096  # lines in one transaction
_EXPORTED_AT_ONCE = 4096  # rows read in one transaction
_CROPS_AT_ONCE = 256  # the same with crops, which have some 20 kB each


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """Counts of the outcomes of an import so far; all counted templates are on the disk."""

    enrolled: int = 0
    duplicates: int = 0
    refused: int = 0


def export_lines(galleries: Galleries, name: str) -> Iterator[bytes]:
    """Export a gallery line by line: its settings, subjects and templates, with their crops.

    The export is the gallery as it is now, under the names of now, however long the client reads: what is added later
    is not in it. What is erased before its line is read is missing. The names and metadata of all subjects, and the
    subject of each template, stay in memory meanwhile, because an open transaction would keep erased records in the
    write-ahead log.

    Raises:
        GalleryUnknown: No gallery has this name; raised before the first line.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)
        subjects = subject_rows.all_of(connection, gallery)
        keys, owners = template_rows.owners(connection, gallery)
    return _lines(galleries, gallery, subjects, keys, owners)


def _lines(
    galleries: Galleries,
    gallery: Gallery,
    subjects: dict[int, tuple[str, str, float, float | None]],
    keys: NDArray[np.int64],
    owners: NDArray[np.int64],
) -> Iterator[bytes]:
    """Yield the lines of an export, without an end line if the gallery is erased meanwhile.

    Args:
        galleries: Galleries of the data directory.
        gallery: Gallery to export.
        subjects: All of its subjects; see `subject_rows.all_of`.
        keys: (N,) keys of its templates, ascending.
        owners: (N,) keys of the subjects of these templates.
    """
    yield header_line(gallery)
    owning = set(owners.tolist())
    empty = [key for key in subjects if key not in owning]
    for start in range(0, len(empty), _EXPORTED_AT_ONCE):
        part = empty[start : start + _EXPORTED_AT_ONCE]
        with galleries.database.reading() as connection:  # short transactions: the client may read slowly
            if not gallery_rows.exists(connection, gallery):
                return
            left = subject_rows.names(connection, part)
        for key in part:
            if key in left:
                yield subject_line(gallery, *_subject(subjects[key]))
    at_once = _CROPS_AT_ONCE if gallery.keep_crops else _EXPORTED_AT_ONCE
    written = 0
    for start in range(0, len(keys), at_once):
        part = keys[start : start + at_once].tolist()
        owner = dict(zip(part, owners[start : start + at_once].tolist(), strict=True))
        with galleries.database.reading() as connection:
            if not gallery_rows.exists(connection, gallery):
                return
            rows = list(template_rows.export_rows(connection, gallery, part[0], part[-1]))
        for key, template in rows:
            yield template_line(gallery, *_subject(subjects[owner[key]]), template)
        written += len(rows)
    yield end_line(written)


def _subject(stored: tuple[str, str, float, float | None]) -> tuple[str, NewSubject]:
    name, metadata, created, expires = stored
    return name, NewSubject(json.loads(metadata), created, expires)


def import_lines(galleries: Galleries, name: str, lines: Iterable[bytes]) -> Iterator[ImportCounts]:
    """Store the templates of an export, `IMPORT_BATCH_LINES` lines in each transaction.

    Templates that the gallery already has count as duplicates, so an interrupted import can simply be repeated.

    Yields:
        The counts so far, after each transaction.

    Raises:
        GalleryUnknown: No gallery has this name.
        VultusError: As `Importer.store`, or the end line is missing although the file has a header.
    """
    yield from store_all(Importer(galleries, name), lines)


def store_all(importer: "Importer", lines: Iterable[bytes]) -> Iterator[ImportCounts]:
    """Store all lines like `import_lines`; the importer has the counts also after an error.

    Yields:
        The counts so far, after each transaction.

    Raises:
        VultusError: As `import_lines`.
    """
    remaining = iter(lines)
    while batch := list(islice(remaining, IMPORT_BATCH_LINES)):
        yield importer.store(batch)
    importer.end()


class Importer:
    """Stores the lines of an export as they arrive.

    A gallery without subjects takes over the settings of the exported gallery that it has not set itself. A subject
    that is new has the metadata of all its lines; where they differ, that of the later line. An existing subject gets
    the members of metadata that it lacks. A new subject whose templates are all refused is stored if it has a line of
    its own. Crops are stored if the gallery keeps crops.
    """

    def __init__(self, galleries: Galleries, name: str) -> None:
        """Begin an import.

        Raises:
            GalleryUnknown: No gallery has this name.
            ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        """
        with galleries.database.reading() as connection:
            self._gallery = galleries.find(connection, name)
            self._newest = subject_rows.newest(connection)
        self._galleries = galleries
        self._reader = LineReader(galleries)
        self._lines = 0
        self._done = ImportCounts()

    def store(self, lines: Sequence[bytes], deadline: Deadline | None = None) -> ImportCounts:
        """Store lines in one transaction and return the counts so far.

        An error of a line states the number of the line. The lines before it are stored.

        Args:
            lines: Lines to store.
            deadline: Deadline of these lines.

        Raises:
            GalleryUnknown: The gallery was erased.
            RequestCancelled: The client disconnected while other writers were busy; none of the lines is stored.
            DeadlineExceeded: The deadline passed while other writers were busy; none of the lines is stored.
            ContractMismatch: A line holds an embedding of another contract than the loaded model.
            LineMalformed: A line is malformed, or its subject would have too much metadata.
            SubjectFull: With a line, its subject would have more templates than allowed.
            NameInvalid: A subject's name is invalid.
            EmbeddingWrongDimension: An embedding has another dimension than the contract.
            EmbeddingNotFinite: An embedding contains NaN or infinity.
            EmbeddingZero: An embedding is zero.
        """
        entries: list[tuple[int, Entry]] = []
        subjects: dict[str, NewSubject] = {}
        failed: VultusError | None = None
        for line in lines:
            self._lines += 1
            if not line.strip():
                continue
            try:
                if (entry := self._reader.read(line)) is None:
                    continue
                subjects[entry.name] = _merged(subjects.get(entry.name), entry.subject)
            except VultusError as error:
                failed = _at_line(error, self._lines)
                break
            entries.append((self._lines, entry))
        self._store(entries, deadline)
        if failed:
            raise failed
        return self._done

    def _store(self, numbered: Sequence[tuple[int, Entry]], deadline: Deadline | None) -> None:
        """Store entries in one transaction, or up to the first one that does not fit into its subject in several.

        Args:
            numbered: Numbers of lines, and their entries.
            deadline: Deadline of these lines.
        """
        subjects: dict[str, NewSubject] = {}
        for _, entry in numbered:
            subjects[entry.name] = _merged(subjects.get(entry.name), entry.subject)
        try:
            stored = store_templates(
                self._galleries,
                self._gallery,
                [(entry.name, entry.template) for _, entry in numbered if entry.template is not None],
                subjects,
                deadline,
                self._reader.settings,
                self._newest,
                {entry.name for _, entry in numbered if entry.template is None},
                all_fit=True,
            )
        except (LineMalformed, SubjectFull) as error:
            if len(numbered) == 1:
                raise _at_line(error, numbered[0][0]) from error
            middle = len(numbered) // 2
            self._store(numbered[:middle], deadline)
            self._store(numbered[middle:], deadline)
            return
        outcomes = [template.outcome for template in stored]
        self._done = ImportCounts(
            self._done.enrolled + outcomes.count("enrolled"),
            self._done.duplicates + outcomes.count("duplicate"),
            self._done.refused + outcomes.count("refused"),
        )

    def name_of_gallery(self) -> str:
        """Return the name that the gallery has now.

        Raises:
            GalleryUnknown: The gallery was erased.
        """
        with self._galleries.database.reading() as connection:
            return gallery_rows.find(connection, self._gallery).name

    @property
    def counts(self) -> ImportCounts:
        """What was stored so far."""
        return self._done

    def end(self) -> ImportCounts:
        """Finish the import and return the total counts.

        Raises:
            LineMalformed: The file has a header but no end line.
        """
        self._reader.require_end()
        return self._done


def _merged(earlier: NewSubject | None, later: NewSubject) -> NewSubject:
    if earlier is None:
        return later
    created = earlier.created if later.created is None else later.created
    expires = earlier.expires if later.expires is None else later.expires
    metadata = merged_metadata(earlier.metadata, later.metadata) if later.metadata else earlier.metadata
    return NewSubject(metadata, created, expires)


def _at_line(error: VultusError, number: int) -> VultusError:
    kind = type(error) if isinstance(error, GalleryError) else LineMalformed
    return kind(f"line {number}: {error}; the lines before it are stored")
