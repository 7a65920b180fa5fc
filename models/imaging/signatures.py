"""Names of formats that are not supported, so that an error can say what was sent."""

import re
import struct

from models.errors import ImageEncodingUnsupported

_SIGNATURES = {
    b"%PDF-": "a PDF",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL \r\n\x87\n": "JPEG XL",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
    b"II\xbc\x01": "JPEG XR",
    b"FUJIFILMCCD-RAW": "a raw photo",
    b"IIU\0": "a raw photo",
    b"IIRO": "a raw photo",
    b"\0\0\x01\0": "an icon",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "HTML",
    b"<html": "HTML",
    b"PK\x03\x04": "a ZIP archive",
    b"\x1a\x45\xdf\xa3": "a video",
}
_BRANDS = {b"crx ": "a raw photo", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"msf1": "HEIF", b"avif": "AVIF"}
_PROCESSES = {  # markers of frames (ITU-T T.81, table B.1; T.87)
    **dict.fromkeys((0xC3, 0xC7, 0xCB, 0xCF), "lossless"),
    **dict.fromkeys((0xC5, 0xC6, 0xCD, 0xCE), "hierarchical"),
    0xF7: "JPEG-LS",
}
_FRAMES = {0xC0, 0xC1, 0xC2, 0xC9, 0xCA, *_PROCESSES}


def format_of(encoded: bytes) -> str | None:
    """Return the name of a known format that is not supported, or None."""
    for signature, name in _SIGNATURES.items():
        if encoded.startswith(signature):
            return name
    if encoded[4:8] == b"ftyp":
        return _BRANDS.get(encoded[8:12], "a video or another file of the ISO base media format")
    return "DICOM" if encoded[128:132] == b"DICM" else None


_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # neither a stuffed byte nor a restart within a scan
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
_ALONE = {0x01, 0xD8}  # markers without a length
_MAX_SEGMENTS = 50_000  # of a walk, which takes 50 ms
MAX_SCANNED_PIXELS = 2 * 10**9
"""Half a second to a second of decoding; encoders write some ten scans, and at most 70."""


def refuse_jpeg_process(encoded: bytes) -> None:
    """Raise an error if the bytes are a JPEG of a kind that is not read; see `jpeg_process`.

    Raises:
        ImageEncodingUnsupported: The sentence names the kind.
    """
    process = jpeg_process(encoded)
    if process:
        raise ImageEncodingUnsupported(
            f"the JPEG image is {process}, which is not supported; save it as baseline or progressive JPEG"
        )


def refuse_many_scans(encoded: bytes, width: int, height: int) -> None:
    """Raise an error if a progressive JPEG has so many scans that decoding it takes seconds.

    Each scan passes over all pixels, however few bytes it has, and decoders cannot be interrupted.

    Raises:
        ImageEncodingUnsupported: The image has too many scans.
    """
    scans = scan_count(encoded)
    if scans * width * height > MAX_SCANNED_PIXELS:
        raise ImageEncodingUnsupported(
            f"the JPEG image has {scans} scans of {width} x {height} pixels, which take too "
            "long to decode; save it as baseline JPEG"
        )


def scan_count(encoded: bytes) -> int:
    """Return the number of scans of a JPEG up to its end, as a decoder finds them.

    Segments such as thumbnails, and what follows the image, such as the video of a motion photo, do not count.
    """
    scans, position = 0, 2
    for _ in range(_MAX_SEGMENTS):
        found = _MARKER.search(encoded, position)
        if found is None or encoded[found.end() - 1] == _END_OF_IMAGE:
            return scans
        marker, position = encoded[found.end() - 1], found.end()
        scans += marker == _START_OF_SCAN
        if marker not in _ALONE:
            position += max(2, int.from_bytes(encoded[position : position + 2], "big"))
    return scans + encoded.count(bytes((0xFF, _START_OF_SCAN)), position)  # at most, without a walk of seconds


def jpeg_process(encoded: bytes) -> str | None:
    """Return why the decoder does not read a JPEG, such as `of 12 bits` or `lossless`; None if it is not known."""
    position = 2 if encoded.startswith(b"\xff\xd8") else len(encoded)
    while position + 10 <= len(encoded) and encoded[position] == 0xFF:
        marker, (length,) = encoded[position + 1], struct.unpack_from(">H", encoded, position + 2)
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if marker in _FRAMES:
            bits, components = encoded[position + 4], encoded[position + 9]
            if marker in _PROCESSES:
                return _PROCESSES[marker]
            return (
                f"of {bits} bits"
                if bits != 8
                else f"of {components} components"
                if components not in (1, 3, 4)
                else None
            )
        position += 2 + length
    return None
