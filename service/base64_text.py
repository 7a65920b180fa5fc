"""Reading of base64 in the forms in which clients write it.

Besides the plain form (RFC 4648, section 4): data URIs (RFC 2397), lines (RFC 2045), the URL-safe alphabet, and text
without padding.
"""

import binascii
import re

from service.errors import Base64Malformed

_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_LINE_ENDS = b"\r\n\t\f\v"
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/= ]")
_URL = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://")
_PATH = re.compile(rb"\\|\.[A-Za-z0-9]{2,5}$")
_LONGEST_PATH = 4096  # PATH_MAX of Linux
_LONGEST_DATA_URI_HEAD = 1024
_ESCAPE = re.compile(rb"%.{0,2}", re.DOTALL)
_ESCAPED = b"+/=\r\n \t-_"  # what an encoder of URIs may escape in base64; it never escapes letters
_PIECE_BYTES = 2**20  # a call on one piece holds the interpreter for less than 10 ms
_BINARY_TYPES = {b"", b"base64", b"image", b"*/*", b"application/octet-stream", b"binary/octet-stream"}


def decode_base64(text: str | bytes) -> bytes:
    """Decode base64, whichever form the client chose.

    Raises:
        Base64Malformed: The text is not base64; the sentence says what it is instead, where that is known.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)  # the plain form is decoded without a copy of the text
    except ValueError:
        return _decode_other_form(text.encode("utf-8", "replace") if isinstance(text, str) else text)


def is_data_uri(text: bytes) -> bool:
    """Return whether a text is a data URI."""
    return text[:64].lstrip()[:5].lower() == b"data:"


def _decode_other_form(text: bytes) -> bytes:
    text = text.strip()
    content = _content_of_data_uri(text) if is_data_uri(text) else text
    characters = content.translate(_URL_SAFE, _LINE_ENDS).strip().rstrip(b"=")
    if len(characters) % 4 == 1:
        raise Base64Malformed(_reason(text, characters))
    try:
        return binascii.a2b_base64(characters + b"=" * (-len(characters) % 4), strict_mode=True)
    except ValueError as error:
        raise Base64Malformed(_reason(text, characters)) from error


def _content_of_data_uri(uri: bytes) -> bytes:
    end = uri.find(b",", 0, _LONGEST_DATA_URI_HEAD)
    if end < 0:
        raise Base64Malformed("the data URI has no comma before its content")
    media_type, *parameters = (word.strip().lower() for word in uri[5:end].split(b";"))
    if b"base64" not in (media_type, *parameters):
        raise Base64Malformed("the data URI is percent-encoded; send `data:image/jpeg;base64,` and base64")
    if media_type not in _BINARY_TYPES and not media_type.startswith(b"image/"):
        raise Base64Malformed(f"the data URI has the media type {media_type.decode('latin-1')!r}; send an image")
    content = uri[end + 1 :]
    return _unescape(content) if b"%" in content else content


def _unescape(content: bytes) -> bytes:
    """Decode the percent-encoding of base64 in linear memory.

    Raises:
        Base64Malformed: An escape is none that base64 can need.
    """
    pieces, start = [], 0
    while start < len(content):
        end = start + _PIECE_BYTES
        if (cut := content.rfind(b"%", end - 2, end)) >= 0:  # an escape is not divided
            end = cut
        piece = content[start:end]
        for character in _ESCAPED:
            piece = piece.replace(b"%%%02X" % character, bytes((character,)))
            piece = piece.replace(b"%%%02x" % character, bytes((character,)))
        if found := _ESCAPE.search(piece):
            escape = found[0].decode("utf-8", "replace")
            raise Base64Malformed(f"the data URI has the escape {escape!r}, which base64 does not need")
        pieces.append(piece)
        start = end
    return b"".join(pieces)


def _reason(text: bytes, characters: bytes) -> str:
    """Say why a text is not base64.

    Args:
        text: The text as it was received.
        characters: The text without line ends and padding, in the plain alphabet.
    """
    if _URL.match(text):
        return "this is a URL, and the service fetches nothing; send the bytes themselves as base64"
    if len(text) <= _LONGEST_PATH and _PATH.search(text):
        return "this is a path, and the service reads no files of clients; send the bytes themselves as base64"
    if foreign := _FOREIGN.search(characters):
        character = characters[foreign.start() : foreign.start() + 4].decode("utf-8", "replace")[0]
        return f"not valid base64: it contains {character!r}"
    if b" " in characters:
        return (
            "not valid base64: it contains spaces; form encoding turns `+` into a space, so send `%2B` or the URL-safe "
            "alphabet, and no spaces between lines"
        )
    if b"=" in characters:
        return "not valid base64: it has padding before its end"
    return "not valid base64: it is cut off, or characters are missing"
