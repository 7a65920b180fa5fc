"""Export and import of galleries as NDJSON.

An export is a header, a line for each subject without templates, a line for each template, and an end line. Every line
before the end line carries the contract id. A missing end line reveals a truncated export. Lines do not depend on each
other, so files can be written by hand or by other programs; such files may omit the header and the end line.
"""

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from models.deadline import Deadline
from models.errors import VultusError
from service.base64_text import decode_base64
from service.errors import Base64Malformed, GalleryError, LineMalformed, RequestError
from service.gallery.embeddings import source_of, unit_vector
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import MAX_METADATA_CHARACTERS, MAX_NORM, Metadata, NewTemplate
from service.gallery.store import gallery_rows, subject_rows, template_rows
from service.gallery.templates import store_templates
from service.strict_json import parse_object

FORMAT = "vultus-templates/1"

IMPORT_BATCH_LINES = 4096  # lines in one transaction
_EXPORTED_AT_ONCE = 4096  # rows read in one transaction
_MEMBERS = {"subject", "metadata", "contract_id", "embedding", "norm", "quality", "source", "created"}
_MAX_QUALITY = 100
_MAX_CREATED = 253402300799  # last second of the year 9999


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """Counts of the outcomes of an import so far; all counted templates are on the disk."""

    enrolled: int = 0
    duplicates: int = 0
    refused: int = 0


def export_lines(galleries: Galleries, name: str) -> Iterator[bytes]:
    """Export a gallery line by line.

    Raises:
        GalleryUnknown: No gallery has this name; raised before the first line.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)

    def lines() -> Iterator[bytes]:
        yield _line({"format": FORMAT, "contract_id": gallery.contract_id, "dimensions": gallery.dimensions})
        last = written = 0
        empty: list[tuple[int, str, Metadata]] | None = None
        while empty is None or len(empty) == _EXPORTED_AT_ONCE:  # short transactions: the client may read slowly
            with galleries.database.reading() as connection:
                empty = subject_rows.without_templates(connection, gallery, last, _EXPORTED_AT_ONCE)
            for last, subject, metadata in empty:  # noqa: B007  # `last` is used above
                yield _line({"subject": subject, "metadata": metadata, "contract_id": gallery.contract_id})
        last = 0
        while True:
            with galleries.database.reading() as connection:
                rows = list(template_rows.export_rows(connection, gallery, last, _EXPORTED_AT_ONCE))
            for last, subject, noted, template in rows:  # noqa: B007  # `last` is used above
                yield _line(
                    {
                        "subject": subject,
                        **({"metadata": json.loads(noted)} if noted != "{}" else {}),
                        "contract_id": gallery.contract_id,
                        "embedding": base64.b64encode(template.embedding.astype("<f4").tobytes()).decode(),
                        "norm": template.norm,
                        "quality": template.quality,
                        "source": template.source.hex(),
                        "created": template.created,
                    }
                )
            written += len(rows)
            if len(rows) < _EXPORTED_AT_ONCE:
                break
        yield _line({"end": {"templates": written}})

    return lines()


def import_lines(galleries: Galleries, name: str, lines: Iterable[bytes]) -> Iterator[ImportCounts]:
    """Store the templates of an export, `IMPORT_BATCH_LINES` lines in each transaction.

    Templates that the gallery already has count as duplicates, so an interrupted import can simply be repeated.

    Yields:
        The counts so far, after each transaction.

    Raises:
        GalleryUnknown: No gallery has this name.
        ContractMismatch: The gallery or a line holds embeddings of another contract than the loaded model.
        LineMalformed: A line is malformed, or the end line is missing although the file has a header.
        NameInvalid: A subject's name is invalid.
        EmbeddingWrongDimension: An embedding has another dimension than the contract.
        EmbeddingNotFinite: An embedding contains NaN or infinity.
        EmbeddingZero: An embedding is zero.
    """
    importer = Importer(galleries, name)
    remaining = iter(lines)
    while batch := list(islice(remaining, IMPORT_BATCH_LINES)):
        yield importer.store(batch)
    importer.end()


class Importer:
    """Stores the lines of an export as they arrive."""

    def __init__(self, galleries: Galleries, name: str) -> None:
        """Begin an import.

        Raises:
            GalleryUnknown: No gallery has this name.
            ContractMismatch: The gallery holds embeddings of another contract than the loaded model.
        """
        with galleries.database.reading() as connection:
            galleries.find(connection, name)
        self._galleries = galleries
        self._name = name
        self._reader = _Reader(galleries)
        self._lines = 0
        self._done = ImportCounts()

    def store(self, lines: Sequence[bytes], deadline: Deadline | None = None) -> ImportCounts:
        """Store lines in one transaction and return the counts so far.

        An error of a line states the number of the line. The lines before it are stored.

        Args:
            lines: Lines to store.
            deadline: Deadline of these lines.

        Raises:
            RequestCancelled: The client disconnected while other writers were busy; none of the lines is stored.
            DeadlineExceeded: The deadline passed while other writers were busy; none of the lines is stored.
            ContractMismatch: A line holds an embedding of another contract than the loaded model.
            LineMalformed: A line is malformed.
            NameInvalid: A subject's name is invalid.
            EmbeddingWrongDimension: An embedding has another dimension than the contract.
            EmbeddingNotFinite: An embedding contains NaN or infinity.
            EmbeddingZero: An embedding is zero.
        """
        entries: list[tuple[str, NewTemplate]] = []
        metadata: dict[str, Metadata] = {}
        failed: VultusError | None = None
        for line in lines:
            self._lines += 1
            if not line.strip():
                continue
            try:
                entry = self._reader.read(line)
            except VultusError as error:
                failed = _at_line(error, self._lines)
                break
            if entry is not None:
                subject, subject_metadata, template = entry
                metadata.setdefault(subject, subject_metadata)
                if template is not None:
                    entries.append((subject, template))
        stored = store_templates(self._galleries, self._name, entries, metadata, deadline)
        outcomes = [template.outcome for template in stored]
        self._done = ImportCounts(
            self._done.enrolled + outcomes.count("enrolled"),
            self._done.duplicates + outcomes.count("duplicate"),
            self._done.refused + outcomes.count("refused"),
        )
        if failed:
            raise failed
        return self._done

    def end(self) -> ImportCounts:
        """Finish the import and return the total counts.

        Raises:
            LineMalformed: The file has a header but no end line.
        """
        self._reader.require_end()
        return self._done


class _Reader:
    """Parses lines in order and records whether the end line was seen."""

    def __init__(self, galleries: Galleries) -> None:
        self._galleries = galleries
        self._announced = False
        self._ended = False
        self._templates = 0

    def read(self, line: bytes) -> tuple[str, Metadata, NewTemplate | None] | None:
        """Return a line's subject, metadata and template, if it has one; return None for the header and the end line.

        Raises:
            LineMalformed: The line is malformed.
        """
        try:
            members = parse_object(line)
        except RequestError as error:
            raise LineMalformed(str(error).replace("the body", "it", 1)) from error
        if self._ended:
            raise LineMalformed("it comes after the end line")
        if "format" in members:
            self._header(members)
        elif "end" in members:
            self._end(members["end"])
        else:
            return self._entry(members)
        return None

    def require_end(self) -> None:
        """Refuse a truncated export.

        Raises:
            LineMalformed: The file has a header but no end line.
        """
        if self._announced and not self._ended:
            raise LineMalformed("the export is truncated: its end line is missing; the templates before it are stored")

    def _header(self, members: dict[str, Any]) -> None:
        if members["format"] != FORMAT:
            raise LineMalformed(f"the format {members['format']!r} is not {FORMAT}")
        self._announced = True
        self._galleries.require_contract(str(members.get("contract_id")), "the file holds embeddings")

    def _end(self, end: Any) -> None:
        self._ended = True
        if end != {"templates": self._templates}:
            raise LineMalformed(
                f"the end line does not match the {self._templates} templates before it; lines are missing"
            )

    def _entry(self, members: dict[str, Any]) -> tuple[str, Metadata, NewTemplate | None]:
        if not _MEMBERS.issuperset(members):
            raise LineMalformed(f"unknown member {sorted(members.keys() - _MEMBERS)[0]!r}")
        subject, metadata = members.get("subject"), members.get("metadata", {})
        if not isinstance(subject, str):
            raise LineMalformed("the member 'subject' is not a string")
        subject = clean_name(subject, "subject")
        if not isinstance(metadata, dict) or (metadata and len(json.dumps(metadata)) > MAX_METADATA_CHARACTERS):
            raise LineMalformed(
                f"the member 'metadata' is not an object of at most {MAX_METADATA_CHARACTERS} characters"
            )
        contract_id = members.get("contract_id")
        if not isinstance(contract_id, str):
            raise LineMalformed("the member 'contract_id' is not a string; it names the contract of the embedding")
        self._galleries.require_contract(contract_id, "the line holds an embedding")
        if members.get("embedding") is None:
            return subject, metadata, None
        self._templates += 1
        vector, length = unit_vector(_vector(members["embedding"]), self._galleries.dimensions)
        norm = _number(members, "norm", MAX_NORM)
        template = NewTemplate(
            vector,
            _source(members["source"]) if members.get("source") is not None else source_of(vector),
            length if norm is None else norm,
            _number(members, "quality", _MAX_QUALITY),
            None,
            _number(members, "created", _MAX_CREATED),
        )
        return subject, metadata, template


def _vector(value: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    if isinstance(value, str):
        try:
            return np.frombuffer(decode_base64(value), "<f4").astype(np.float32, copy=False)
        except (Base64Malformed, ValueError) as error:
            raise LineMalformed("the member 'embedding' is not base64 of float32 numbers") from error
    if isinstance(value, list) and all(isinstance(number, int | float) for number in value):
        try:
            with np.errstate(over="ignore"):  # the overflow becomes infinity, which `unit_vector` refuses
                return np.array(value, np.float64).astype(np.float32)
        except OverflowError as error:
            raise LineMalformed("the member 'embedding' contains a number that is too large") from error
    raise LineMalformed("the member 'embedding' is neither base64 nor a list of numbers")


def _source(value: Any) -> bytes:
    try:
        source = bytes.fromhex(value)
    except (ValueError, TypeError):
        source = b""
    if len(source) != 32:
        raise LineMalformed("the member 'source' is not a SHA-256 digest in hexadecimal")
    return source


def _number(members: dict[str, Any], name: str, maximum: float) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= maximum:
        raise LineMalformed(f"the member {name!r} is not a number between 0 and {maximum:g}")
    return float(value)


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _at_line(error: VultusError, number: int) -> VultusError:
    kind = type(error) if isinstance(error, GalleryError) else LineMalformed
    return kind(f"line {number}: {error}; the lines before it are stored")
