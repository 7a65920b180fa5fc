"""Parser of the lines of an exported gallery, which may also be written by hand."""

import json
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from service.base64_text import decode_base64
from service.errors import Base64Malformed, LineMalformed, RequestError
from service.gallery.embeddings import source_of, unit_vector
from service.gallery.exchange_format import FORMAT, OLD_FORMATS
from service.gallery.galleries import Galleries
from service.gallery.names import clean_name
from service.gallery.records import (
    MAX_METADATA_CHARACTERS,
    MAX_METADATA_DEPTH,
    MAX_NORM,
    MAX_RETAIN_DAYS,
    GallerySettings,
    IndexKind,
    Metadata,
    NewSubject,
    NewTemplate,
    is_deep,
)
from service.strict_json import parse_object

_MEMBERS = {
    *("subject", "metadata", "contract_id", "embedding", "norm", "quality", "source", "created"),
    *("subject_created", "crop", "expires", "subject_expires", "template_metadata"),
}
_SETTINGS = {"name", "index", "keep_crops", "min_quality", "metadata", "created", "retain_days"}
_MAX_QUALITY = 100
_MAX_CREATED = 253402300799  # last second of the year 9999
_ENGINE_ERROR = 0.005  # deviation of the length of an embedding as an engine in bf16 returns it
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """The line of a template, or of a subject without templates.

    Attributes:
        name: Name of the subject.
        subject: Metadata of the subject, and when it was created.
        template: The template; None for a subject without templates.
    """

    name: str
    subject: NewSubject
    template: NewTemplate | None


class LineReader:
    """Parses lines in order.

    Attributes:
        settings: Settings of the exported gallery; None before the header, and if the header has none.
    """

    def __init__(self, galleries: Galleries) -> None:
        """Start before the first line.

        Args:
            galleries: Galleries for whose contract the lines are.
        """
        self.settings: GallerySettings | None = None
        self._galleries = galleries
        self._begun = False
        self._announced = False
        self._exported = False
        self._ended = False
        self._templates = 0

    def read(self, line: bytes) -> Entry | None:
        """Parse a line; return None for the header and the end line.

        Raises:
            LineMalformed: The line is malformed.
            ContractMismatch: The line holds an embedding of another contract than the loaded model.
            NameInvalid: The name of the subject is invalid.
            EmbeddingWrongDimension: The embedding has another dimension than the contract.
            EmbeddingNotFinite: The embedding contains NaN or infinity.
            EmbeddingZero: The embedding is zero.
        """
        self._begun = True
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
            LineMalformed: The file has no lines, or a header but no end line.
        """
        if not self._begun:
            raise LineMalformed("the export is truncated: it has no lines; even an empty gallery has two in its export")
        if self._announced and not self._ended:
            raise LineMalformed("the export is truncated: its end line is missing; the templates before it are stored")

    def _header(self, members: dict[str, Any]) -> None:
        if members["format"] not in (FORMAT, *OLD_FORMATS):
            raise LineMalformed(f"the format {members['format']!r} is not {FORMAT}, nor {', '.join(OLD_FORMATS)}")
        self._announced = True
        self._exported = members["format"] == FORMAT
        self._galleries.require_contract(str(members.get("contract_id")), "the file holds embeddings")
        dimensions = members.get("dimensions", self._galleries.dimensions)
        if type(dimensions) is not int or dimensions != self._galleries.dimensions:
            raise LineMalformed(
                f"the member 'dimensions' is not {self._galleries.dimensions}, as the contract requires"
            )
        if members.get("gallery") is not None:
            self.settings = _settings(members["gallery"])

    def _end(self, end: Any) -> None:
        self._ended = True
        if end != {"templates": self._templates} or type(end["templates"]) is not int:
            raise LineMalformed(
                f"the end line does not match the {self._templates} templates before it; lines are missing"
            )

    def _entry(self, members: dict[str, Any]) -> Entry:
        _refuse_unknown(members, _MEMBERS)
        name = members.get("subject")
        if not isinstance(name, str):
            raise LineMalformed("the member 'subject' is not a string")
        name = clean_name(name, "subject")
        metadata = _metadata(members)
        contract_id = members.get("contract_id")
        if not isinstance(contract_id, str):
            raise LineMalformed("the member 'contract_id' is not a string; it names the contract of the embedding")
        self._galleries.require_contract(contract_id, "the line holds an embedding")
        created = _number(members, "created", _MAX_CREATED)
        ends = _number(members, "subject_expires", _MAX_CREATED)
        if members.get("embedding") is None:
            return Entry(name, NewSubject(metadata, created, ends), None)
        self._templates += 1
        subject = NewSubject(metadata, _number(members, "subject_created", _MAX_CREATED), ends)
        return Entry(name, subject, self._template(members, created))

    def _template(self, members: dict[str, Any], created: float | None) -> NewTemplate:
        received = _vector(members["embedding"])
        vector, length = unit_vector(received, self._galleries.dimensions)
        if self._exported and length is not None and abs(length - 1) < _ENGINE_ERROR:
            vector, length = received, None  # as stored: a copy of the gallery must not differ by a rounding
        norm = _number(members, "norm", MAX_NORM)
        return NewTemplate(
            vector,
            _source(members["source"]) if members.get("source") is not None else source_of(vector),
            length if norm is None else norm,
            _number(members, "quality", _MAX_QUALITY),
            None if members.get("crop") is None else _crop(members["crop"]),
            created,
            _number(members, "expires", _MAX_CREATED),
            _metadata(members, "template_metadata"),
        )


def merged_metadata(earlier: Metadata, later: Metadata) -> Metadata:
    """Return the members of both, those of `later` where they differ.

    Raises:
        LineMalformed: Together they are too large.
    """
    merged = {**earlier, **later}
    _require_small(merged)
    return merged


def _settings(value: Any) -> GallerySettings:
    if not isinstance(value, dict):
        raise LineMalformed("the member 'gallery' is not an object")
    _refuse_unknown(value, _SETTINGS)
    index, keep_crops = value.get("index", "auto"), value.get("keep_crops", False)
    if index not in get_args(IndexKind):
        raise LineMalformed(f"the member 'index' is not one of {', '.join(get_args(IndexKind))}")
    if not isinstance(keep_crops, bool):
        raise LineMalformed("the member 'keep_crops' is neither true nor false")
    return GallerySettings(
        index,
        keep_crops,
        _number(value, "min_quality", _MAX_QUALITY) or 0.0,
        _metadata(value),
        _number(value, "created", _MAX_CREATED),
        _number(value, "retain_days", MAX_RETAIN_DAYS) or 0.0,
    )


def _refuse_unknown(members: dict[str, Any], known: set[str]) -> None:
    if not known.issuperset(members):
        raise LineMalformed(f"unknown member {min(members.keys() - known)!r}")


def _metadata(members: dict[str, Any], name: str = "metadata") -> Metadata:
    metadata = members.get(name, {})
    if not isinstance(metadata, dict):
        raise LineMalformed(f"the member {name!r} is not an object of at most {MAX_METADATA_CHARACTERS} characters")
    if is_deep(metadata):
        raise LineMalformed(f"the member {name!r} is nested deeper than {MAX_METADATA_DEPTH} levels")
    if metadata:
        _require_small(metadata, name)
    return metadata


def _require_small(metadata: Metadata, name: str = "metadata") -> None:
    if len(json.dumps(metadata)) > MAX_METADATA_CHARACTERS:
        raise LineMalformed(
            f"the member {name!r}, with that of earlier lines of the subject, exceeds {MAX_METADATA_CHARACTERS} "
            "characters"
        )


def _vector(value: Any) -> NDArray[np.float32]:
    if isinstance(value, str):
        try:
            return np.frombuffer(decode_base64(value), "<f4").astype(np.float32, copy=False)
        except (Base64Malformed, ValueError) as error:
            raise LineMalformed("the member 'embedding' is not base64 of float32 numbers") from error
    if isinstance(value, list) and all(type(number) in (int, float) for number in value):  # a boolean is an int too
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


def _crop(value: Any) -> bytes:
    try:
        crop = decode_base64(value) if isinstance(value, str) else b""
    except Base64Malformed:
        crop = b""
    if not crop.startswith(_PNG):
        raise LineMalformed("the member 'crop' is not base64 of a PNG file")
    return crop


def _number(members: dict[str, Any], name: str, maximum: float) -> float | None:
    value = members.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= maximum:
        raise LineMalformed(f"the member {name!r} is not a number between 0 and {maximum:g}")
    return float(value)
