"""JPEG streams within a TIFF: compression 7 of TIFF Technical Note 2, and 6 of TIFF 6.0, section 22.

libtiff decodes a stream that ends too soon, and the rest of the photo is grey. So each stream is checked as JPEG files
are.
"""

from collections.abc import Iterator
from io import BytesIO

import simplejpeg
from PIL import Image

from models.errors import ImageDamaged, ImageEncodingUnsupported
from models.imaging.signatures import MAX_SCANNED_PIXELS, scan_count
from models.imaging.tiff.page import Page

OLD_JPEG, JPEG = 6, 7
_STRIPS, _STRIP_LENGTHS, _TILES, _TILE_LENGTHS = 273, 279, 324, 325
_TABLES = 347
_STREAM, _STREAM_LENGTH = 513, 514  # JPEGInterchangeFormat
_MAX_TABLES = 2**16  # bytes, which are copied for each stream; all tables of JPEG have some 2,000
_START, _END = b"\xff\xd8", b"\xff\xd9"


def check_jpeg(page: Page, max_pixels: int) -> None:
    """Raise an error if a JPEG stream of a page is incomplete.

    Args:
        page: Page in one of the two compressions; of the old one, see `is_one_stream`.
        max_pixels: Number of pixels that the streams may have together.

    Raises:
        ImageDamaged: A stream is truncated or corrupt, or the streams have more pixels.
        ImageEncodingUnsupported: The streams have so many scans that decoding them takes seconds.
    """
    pixels = scanned = 0
    for stream in _streams(page):
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(stream)
            pixels, scanned = pixels + height * width, scanned + scan_count(stream) * height * width
            if pixels > max_pixels:
                raise ImageDamaged("the TIFF image is corrupt: its JPEG streams have more pixels than the page")
            if scanned > MAX_SCANNED_PIXELS:
                raise ImageEncodingUnsupported(
                    "the TIFF holds JPEG of so many scans that it takes too long to decode; save it as baseline JPEG"
                )
            output = "CMYK" if colours in ("CMYK", "YCCK") else "GRAY"
            simplejpeg.decode_jpeg(stream, output, min_width=1, min_height=1)  # at an eighth of the size
        except ValueError as error:
            if "subsampling" not in str(error):  # simplejpeg knows the common ratios only, Pillow knows all
                raise ImageDamaged("the TIFF image is truncated or corrupt") from error
            Image.open(BytesIO(stream), formats=["JPEG"]).load()


def is_one_stream(page: Page) -> bool:
    """Return whether a page of the old compression is one complete stream; otherwise its tables lie elsewhere."""
    start, end = _bounds(page)
    places = page.directory.array(_STRIPS)
    return page.directory.file.encoded.startswith(_START, start) and bool(((places >= start) & (places < end)).all())


def _bounds(page: Page) -> tuple[int, int]:
    start = max(0, page.directory.number(_STREAM, 0))
    return start, start + max(0, page.directory.number(_STREAM_LENGTH, 0))


def _streams(page: Page) -> Iterator[bytes]:
    """Yield the streams of the strips or tiles, each with the tables that they share.

    Raises:
        ImageDamaged: The strips are not in the file, overlap, or have tables of an impossible size.
    """
    directory, encoded = page.directory, page.directory.file.encoded
    if page.compression == OLD_JPEG:
        start, end = _bounds(page)
        yield encoded[start:end]
        return
    places, lengths = (
        next((found for tag in tags if len(found := directory.array(tag))), directory.array(0))
        for tags in ((_TILES, _STRIPS), (_TILE_LENGTHS, _STRIP_LENGTHS))
    )
    tables = directory.raw(_TABLES).removesuffix(_END)
    if len(places) != len(lengths) or lengths.sum() > len(encoded) or len(tables) > _MAX_TABLES:
        raise ImageDamaged("the TIFF image is truncated or corrupt: it states strips that it does not have")
    for place, length in zip(places.tolist(), lengths.tolist(), strict=True):
        strip = encoded[max(0, place) : max(0, place) + max(0, length)]
        yield tables + strip.removeprefix(_START) if tables else strip
