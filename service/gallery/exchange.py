"""Galleries as NDJSON: a header, a line for each template with its contract id, and an end by which a cut is seen.

Lines stand for themselves, so that files can be made by hand or by other programs; then header and end may be missing.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from models.errors import VultusError
from service.errors import GalleryError, LineMalformed, RequestError
from service.gallery.embeddings import source_of, unit_vector
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import LARGEST_NORM, METADATA_MOST, Metadata, NewTemplate
from service.gallery.store import gallery_rows, subject_rows, template_rows
from service.gallery.templates import store_templates
from service.strict_json import parse_object

FORMAT = "vultus-templates/1"

IMPORTED_AT_ONCE = 4096  # lines of one transaction
_BATCH = 4096
_MEMBERS = {"subject", "metadata", "contract_id", "embedding", "norm", "quality", "source", "created"}
_HIGHEST_QUALITY = 100
_LAST_SECOND = 253402300799  # of the year 9999


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of lines so far; all of it is on the disk."""

    enrolled: int = 0
    duplicates: int = 0
    refused: int = 0


def export_lines(galleries: Galleries, name: str) -> Iterator[bytes]:
    """Write a gallery line by line.

    Raises:
        GalleryUnknown: There is none of that name; raised before the first line.
    """
    with galleries.database.reading() as connection:
        gallery = gallery_rows.find(connection, name)

    def lines() -> Iterator[bytes]:
        yield _line({"format": FORMAT, "contract_id": gallery.contract_id, "dimensions": gallery.dimensions})
        last = written = 0
        empty: list[tuple[int, str, Metadata]] | None = None
        while empty is None or len(empty) == _BATCH:  # each in a short transaction: whoever reads on may take his time
            with galleries.database.reading() as connection:
                empty = subject_rows.without_templates(connection, gallery, last, _BATCH)
            for last, subject, metadata in empty:  # noqa: B007  # `last` is used above
                yield _line({"subject": subject, "metadata": metadata, "contract_id": gallery.contract_id})
        last = 0
        while True:
            with galleries.database.reading() as connection:
                rows = list(template_rows.export_rows(connection, gallery, last, _BATCH))
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
            if len(rows) < _BATCH:
                break
        yield _line({"end": {"templates": written}})

    return lines()


def import_lines(galleries: Galleries, name: str, lines: Iterable[bytes]) -> Iterator[Imported]:
    """Store templates of an export, some thousand in each transaction.

    What is there already is passed over, so an import that was broken off is simply done again.

    Yields:
        What was stored so far, after each transaction.

    Raises:
        As `Importer`; what was told of before stays.
    """
    importer = Importer(galleries, name)
    arriving = iter(lines)
    while some := list(islice(arriving, IMPORTED_AT_ONCE)):
        yield importer.store(some)
    importer.end()


class Importer:
    """Stores the lines of an export as they come."""

    def __init__(self, galleries: Galleries, name: str) -> None:
        """Begin an import.

        Raises:
            GalleryUnknown, ContractMismatch: The gallery cannot take anything of this model.
        """
        with galleries.database.reading() as connection:
            galleries.find(connection, name)
        self._galleries = galleries
        self._name = name
        self._reader = _Reader(galleries)
        self._lines = 0
        self._done = Imported()

    def store(self, lines: Sequence[bytes]) -> Imported:
        """Store some lines in one transaction, and tell what was stored so far.

        Raises:
            ContractMismatch, LineMalformed, NameInvalid: A line cannot be used; its number is in the sentence. Those
                before it are stored.
            EmbeddingWrongDimension, EmbeddingNotFinite, EmbeddingZero: The same, of an embedding.
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
                subject, own, template = entry
                metadata.setdefault(subject, own)
                if template is not None:
                    entries.append((subject, template))
        outcomes = [one.outcome for one in store_templates(self._galleries, self._name, entries, metadata)]
        self._done = Imported(
            self._done.enrolled + outcomes.count("enrolled"),
            self._done.duplicates + outcomes.count("duplicate"),
            self._done.refused + outcomes.count("refused"),
        )
        if failed:
            raise failed
        return self._done

    def end(self) -> Imported:
        """Tell what was stored in all.

        Raises:
            LineMalformed: The header announced an end that did not come.
        """
        self._reader.require_end()
        return self._done


class _Reader:
    """Reads lines one after the other, and whether their end was there."""

    def __init__(self, galleries: Galleries) -> None:
        self._galleries = galleries
        self._announced = False
        self._ended = False
        self._templates = 0

    def read(self, line: bytes) -> tuple[str, Metadata, NewTemplate | None] | None:
        """Read a line: subject, its metadata, and a template if it has one; None for header and end."""
        try:
            members = parse_object(line)
        except RequestError as error:
            raise LineMalformed(str(error).replace("the body", "it", 1)) from error
        if self._ended:
            raise LineMalformed("it comes after the end")
        if "format" in members:
            self._header(members)
        elif "end" in members:
            self._end(members["end"])
        else:
            return self._entry(members)
        return None

    def require_end(self) -> None:
        """Refuse an export that was cut off.

        Raises:
            LineMalformed: The header announced an end that did not come.
        """
        if self._announced and not self._ended:
            raise LineMalformed("the end is missing: the export was cut off; the templates before it were imported")

    def _header(self, members: dict[str, Any]) -> None:
        if members["format"] != FORMAT:
            raise LineMalformed(f"the format {members['format']!r} is not {FORMAT}")
        self._announced = True
        self._galleries.require_contract(str(members.get("contract_id")), "the file holds embeddings")

    def _end(self, end: Any) -> None:
        self._ended = True
        if end != {"templates": self._templates}:
            raise LineMalformed(f"the end does not fit the {self._templates} templates before it; lines are missing")

    def _entry(self, members: dict[str, Any]) -> tuple[str, Metadata, NewTemplate | None]:
        if not _MEMBERS.issuperset(members):
            raise LineMalformed(f"there is no member {sorted(members.keys() - _MEMBERS)[0]!r}")
        subject, metadata = members.get("subject"), members.get("metadata", {})
        if not isinstance(subject, str):
            raise LineMalformed("the member 'subject' is no text")
        subject = clean_name(subject, "subject")
        if not isinstance(metadata, dict) or (metadata and len(json.dumps(metadata)) > METADATA_MOST):
            raise LineMalformed(f"the member 'metadata' is no object of at most {METADATA_MOST} characters")
        contract_id = members.get("contract_id")
        if not isinstance(contract_id, str):
            raise LineMalformed("the member 'contract_id' is no text: of which model is the embedding?")
        self._galleries.require_contract(contract_id, "the line holds an embedding")
        if members.get("embedding") is None:
            return subject, metadata, None
        self._templates += 1
        vector, length = unit_vector(_vector(members["embedding"]), self._galleries.dimensions)
        norm = _number(members, "norm", LARGEST_NORM)
        template = NewTemplate(
            vector,
            _source(members["source"]) if members.get("source") is not None else source_of(vector),
            length if norm is None else norm,
            _number(members, "quality", _HIGHEST_QUALITY),
            None,
            _number(members, "created", _LAST_SECOND),
        )
        return subject, metadata, template


def _vector(value: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
    if isinstance(value, str):
        try:
            return np.frombuffer(binascii.a2b_base64(value, strict_mode=True), "<f4").astype(np.float32, copy=False)
        except ValueError as error:
            raise LineMalformed("the member 'embedding' is not base64 of float32 numbers") from error
    if isinstance(value, list) and all(isinstance(number, int | float) for number in value):
        try:
            with np.errstate(over="ignore"):  # refused as infinite
                return np.array(value, np.float64).astype(np.float32)
        except OverflowError as error:
            raise LineMalformed("the member 'embedding' has a number that is too large") from error
    raise LineMalformed("the member 'embedding' is neither base64 nor a list of numbers")


def _source(value: Any) -> bytes:
    try:
        source = bytes.fromhex(value)
    except (ValueError, TypeError):
        source = b""
    if len(source) != 32:
        raise LineMalformed("the member 'source' is not a SHA-256 in hexadecimal digits")
    return source


def _number(members: dict[str, Any], name: str, most: float) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise LineMalformed(f"the member {name!r} is no number between 0 and {most:g}")
    return float(value)


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _at_line(error: VultusError, number: int) -> VultusError:
    kind = type(error) if isinstance(error, GalleryError) else LineMalformed
    return kind(f"line {number}: {error}; the lines before it are stored")
