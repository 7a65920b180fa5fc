"""Parsing of multipart forms from the pieces in which a body arrived; each byte is copied once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.errors import MultipartMalformed, TooManyImages

_MAX_FIELDS = 16


@dataclass(slots=True)
class Part:
    """One part of a form.

    Attributes:
        name: Name of the field.
        is_file: Whether the part has a file name.
        content_type: `Content-Type` header of the part; empty without one.
        content: Bytes of the part.
    """

    name: str = ""
    is_file: bool = False
    content_type: str = ""
    content: bytes = b""

    @property
    def text(self) -> str:
        """The content of a part that is not a file."""
        return _text(self.content)


@dataclass(slots=True)
class _PartCollector:
    """Callbacks of the parser, which collect the parts."""

    max_files: int
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
        self._headers[name.lower()] = value
        self._header = ([], [])

    def begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise MultipartMalformed("a part of the multipart body has no name in its Content-Disposition header")
        is_file = b"filename" in options
        self.parts.append(Part(_text(options[b"name"]), is_file, _text(self._headers.get(b"content-type", b""))))
        if sum(part.is_file for part in self.parts) > self.max_files:
            raise TooManyImages(f"more than {self.max_files - 1} images were sent")
        if sum(not part.is_file for part in self.parts) > _MAX_FIELDS:
            raise MultipartMalformed(f"the multipart body has more than {_MAX_FIELDS} parts that are not files")

    def content(self, piece: bytes, start: int, end: int) -> None:
        self._slices.append(memoryview(piece)[start:end])

    def end_part(self) -> None:
        self.parts[-1].content = b"".join(self._slices)

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
        TooManyImages: The form has more files than accepted.
    """
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise MultipartMalformed("the multipart body is malformed: its Content-Type header has no boundary")
    collector = _PartCollector(max_images + 1)
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
        for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise MultipartMalformed(f"the multipart body is malformed: {error}") from error
    if not collector.complete:
        raise MultipartMalformed("the multipart body is truncated: its closing boundary is missing")
    return collector.parts


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
