"""Parsing of multipart forms (RFC 7578) from the pieces in which a body arrived; each byte is copied once.

A text before the first boundary is skipped (RFC 2046, section 5.1.1), and the transfer encodings of mail are decoded. A
part that repeats one of its headers is refused, because other programs would read the other one.
"""

import quopri
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.base64_text import decode_base64
from service.errors import Base64Malformed, MediaTypeUnsupported, MultipartMalformed, TooManyImages

_MAX_FIELDS = 64  # more than any operation has options, of which some may be repeated
_MAX_PREAMBLE_BYTES = 8192
_UNENCODED = {b"", b"binary", b"8bit", b"7bit", b"identity"}


@dataclass(slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: Name of the field.
        is_file: Whether the part has a file name.
        encoding: `Content-Transfer-Encoding` header of the part; empty without one.
        content_type: `Content-Type` header of the part; empty without one.
        content: Bytes of the part.
    """

    name: str = ""
    is_file: bool = False
    content_type: str = ""
    encoding: bytes = b""
    content: bytes = b""

    @property
    def text(self) -> str:
        """The content of a part that is not a file."""
        return _text(self.content)


@dataclass(slots=True)
class _PartCollector:
    """Callbacks of the parser, which collect the parts."""

    max_images: int
    files: int = 0
    parts: list[Part] = field(default_factory=list)
    complete: bool = False
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _header: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))
    _slices: list[memoryview] = field(default_factory=list)

    def begin_part(self) -> None:
        self._headers, self._slices = {}, []

    def header_field(self, piece: bytes, start: int, end: int) -> None:
        self._header[0].append(piece[start:end])

    def header_value(self, piece: bytes, start: int, end: int) -> None:
        self._header[1].append(piece[start:end])

    def end_header(self) -> None:
        name, value = map(b"".join, self._header)
        if name.lower() in self._headers:
            raise MultipartMalformed(f"a part of the multipart body has two headers {_text(name)!r}")
        self._headers[name.lower()] = value
        self._header = ([], [])

    def begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise MultipartMalformed("a part of the multipart body has no name in its Content-Disposition header")
        part = Part(
            _text(options[b"name"]),
            b"filename" in options or b"filename*" in options,
            _text(self._headers.get(b"content-type", b"")),
            self._headers.get(b"content-transfer-encoding", b"").strip().lower(),
        )
        self.parts.append(part)
        self.files += part.is_file
        if self.files > self.max_images + 1:  # one more is accepted, so that the caller can count them by name
            raise TooManyImages(f"more than {self.max_images} images were sent")
        max_fields = self.max_images + _MAX_FIELDS  # a photo need not be a file
        if len(self.parts) - self.files > max_fields:
            raise MultipartMalformed(f"the multipart body has more than {max_fields} parts that are not files")

    def content(self, piece: bytes, start: int, end: int) -> None:
        self._slices.append(memoryview(piece)[start:end])

    def end_part(self) -> None:
        part = self.parts[-1]
        part.content = b"".join(self._slices)
        if part.encoding not in _UNENCODED:
            _decode(part)

    def end(self) -> None:
        self.complete = True


def read_parts(pieces: Sequence[bytes], content_type: str, max_images: int) -> list[Part]:
    """Parse a multipart form.

    Args:
        pieces: Pieces of the body.
        content_type: `Content-Type` header of the request, with the boundary.
        max_images: Maximum number of images. One more file is accepted here, so that the caller can count them by name.

    Raises:
        MultipartMalformed: The body is not the form that the header declares, or it is truncated.
        MediaTypeUnsupported: A part has an unknown transfer encoding.
        Base64Malformed: A part is not the base64 that its header declares.
        TooManyImages: The form has more files than accepted.
    """
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise MultipartMalformed("the multipart body is malformed: its Content-Type header has no boundary")
    collector = _PartCollector(max_images)
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": collector.begin_part,
                "on_header_field": collector.header_field,
                "on_header_value": collector.header_value,
                "on_header_end": collector.end_header,
                "on_headers_finished": collector.begin_content,
                "on_part_data": collector.content,
                "on_part_end": collector.end_part,
                "on_end": collector.end,
            },
        )
        for piece in _without_preamble(pieces, b"--" + options[b"boundary"]):
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise MultipartMalformed(f"the multipart body is malformed: {error}") from error
    if not collector.complete:
        raise MultipartMalformed("the multipart body is truncated: its closing boundary is missing")
    return collector.parts


def _without_preamble(pieces: Sequence[bytes], delimiter: bytes) -> Iterable[bytes]:
    """Return the pieces of a body from its first boundary; all of them if it is not near the beginning."""
    beginning = b""
    for position, piece in enumerate(pieces):
        beginning += piece
        if beginning.startswith(delimiter):
            return [beginning, *pieces[position + 1 :]]
        found = beginning.find(b"\r\n" + delimiter, 0, _MAX_PREAMBLE_BYTES)
        if found >= 0:
            return [beginning[found + 2 :], *pieces[position + 1 :]]
        if len(beginning) > _MAX_PREAMBLE_BYTES:
            break
    return pieces


def _decode(part: Part) -> None:
    if part.encoding == b"base64":
        try:
            part.content = decode_base64(part.content)
        except Base64Malformed as error:
            error.part = part.name
            raise
    elif part.encoding == b"quoted-printable":
        part.content = quopri.decodestring(part.content)
    else:
        declared = _text(part.encoding)
        unsupported = MediaTypeUnsupported(
            f"the part {part.name!r} has the Content-Transfer-Encoding {declared!r}; send it without one"
        )
        unsupported.part = part.name
        raise unsupported


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
