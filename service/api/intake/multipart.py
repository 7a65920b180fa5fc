"""The parts of a multipart form, put together from the pieces in which the body came: each byte is copied once."""

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
        name: Of the field.
        is_file: Whether it came with a file name.
        content_type: As it came; empty if it did not.
        content: Its bytes.
    """

    name: str = ""
    is_file: bool = False
    content_type: str = ""
    content: bytes = b""

    @property
    def text(self) -> str:
        """The content of a part that is no file."""
        return _text(self.content)


@dataclass(slots=True)
class _Reader:
    """Takes what the parser finds."""

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
            raise MultipartMalformed("a part of the multipart body has no name in its Content-Disposition")
        is_file = b"filename" in options
        self.parts.append(Part(_text(options[b"name"]), is_file, _text(self._headers.get(b"content-type", b""))))
        if sum(part.is_file for part in self.parts) > self.max_files:
            raise TooManyImages(f"more than {self.max_files - 1} images were sent")
        if sum(not part.is_file for part in self.parts) > _MAX_FIELDS:
            raise MultipartMalformed(f"the multipart body has more than {_MAX_FIELDS} parts that are no files")

    def content(self, piece: bytes, start: int, end: int) -> None:
        self._slices.append(memoryview(piece)[start:end])

    def end_part(self) -> None:
        self.parts[-1].content = b"".join(self._slices)

    def end(self) -> None:
        self.complete = True


def read_parts(pieces: Sequence[bytes], content_type: str, max_images: int) -> list[Part]:
    """Read a form.

    Args:
        pieces: Of the body.
        content_type: Header of the request, with the boundary.
        max_images: Most files; one more is let through, so that the caller can count them by name.

    Raises:
        MultipartMalformed: It is not the form that the header announces, or it is cut off.
        TooManyImages: It has more files.
    """
    _, options = parse_options_header(content_type)
    if not options.get(b"boundary"):
        raise MultipartMalformed("the multipart body is malformed: its header names no boundary")
    reader = _Reader(max_images + 1)
    try:
        parser = MultipartParser(
            options[b"boundary"],
            {
                "on_part_begin": reader.begin_part,
                "on_header_field": reader.header_field,
                "on_header_value": reader.header_value,
                "on_header_end": reader.end_header,
                "on_headers_finished": reader.begin_content,
                "on_part_data": reader.content,
                "on_part_end": reader.end_part,
                "on_end": reader.end,
            },
        )
        for piece in pieces:
            parser.write(piece)
        parser.finalize()
    except FormParserError as error:
        raise MultipartMalformed(f"the multipart body is malformed: {error}") from error
    if not reader.complete:
        raise MultipartMalformed("the multipart body is cut off: its closing boundary is missing")
    return reader.parts


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")
