"""TIFF photos: the page, its limits, and its decoder."""

from io import BytesIO
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImagePalette, UnidentifiedImageError

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageTooManyPixels
from models.imaging.limits import ImageLimits
from models.imaging.orientation import valid_orientation, xmp_orientation
from models.imaging.pixels import decoded, to_rgb
from models.imaging.tiff import page as tags
from models.imaging.tiff.colours import to_colours
from models.imaging.tiff.forms import ADVICE, is_plain, refuse_unsupported
from models.imaging.tiff.jpeg import JPEG, OLD_JPEG, check_jpeg
from models.imaging.tiff.page import Page, full_page
from models.imaging.tiff.samples import Samples, tiling

_MAX_PARTS = 65_536  # strips or tiles
_MAX_SAMPLE_BYTES = 8  # for each permitted pixel: RGBA of 16 bits
_SMALL_TILE = 2**20  # pixels of a tile or a JPEG stream that may be larger than the picture
_XMP = 700
_COLOUR_MAP = 320
_ORIENTATION, _SAMPLE_FORMAT = 274, 339


class TiffImage:
    """A TIFF whose directories have been read."""

    format = "TIFF"
    plain_jpeg = False

    def __init__(self, encoded: bytes, limits: ImageLimits) -> None:
        """Choose the page and check that its form is supported.

        Raises:
            ImageDamaged: The directories are corrupt.
            ImageSeveralPages: The file has several full pages.
            ImageEncodingUnsupported: The form of the page is not supported.
            ImageTooManyPixels: The page has too many pixels, or too many bytes of samples.
            ImageTooSmall: A side is too short.
        """
        self._page = page = full_page(encoded)
        self.size = (page.width, page.height)
        limits.check_size(*self.size)
        _check_parts(page, limits)
        self._by_pillow = is_plain(page)
        if not self._by_pillow:
            refuse_unsupported(page)
        self.orientation = valid_orientation(page.orientation) or xmp_orientation(page.directory.raw(_XMP)) or 1

    def decode(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, RGB, as stored.

        Raises:
            ImageDamaged: The page is truncated or corrupt.
            ImageEncodingUnsupported: The form of the page is not supported.
        """
        if self._by_pillow:
            return decoded("TIFF", lambda: _decode_plain(self._page))
        return decoded("TIFF", lambda: to_colours(self._page, Samples(self._page)))


def _check_parts(page: Page, limits: ImageLimits) -> None:
    """Refuse a page whose strips or tiles need much more memory than its pixels.

    Raises:
        ImageTooManyPixels: The strips or tiles are too large.
        ImageDamaged: The strips or tiles are too many.
    """
    across, down = tiling(page)
    columns = -(-page.width // across)
    padded = max(columns * across * page.height, across * down)
    if across * down > max(_SMALL_TILE, 4 * page.width * page.height):
        raise ImageTooManyPixels(
            f"the TIFF has tiles of {across} x {down} pixels for an image of {page.width} x {page.height}"
        )
    stored = padded * sum(page.bits) // 8
    if stored > limits.max_pixels * _MAX_SAMPLE_BYTES:
        raise ImageTooManyPixels(
            f"the TIFF has {stored} bytes of samples; at most {limits.max_pixels * _MAX_SAMPLE_BYTES} are accepted"
        )
    if columns * -(-page.height // down) * (page.samples if page.planes == 2 else 1) > _MAX_PARTS:
        raise ImageDamaged(f"the TIFF is divided into more than {_MAX_PARTS} strips or tiles")


def _decode_plain(page: Page) -> NDArray[np.uint8]:
    if page.compression in (OLD_JPEG, JPEG):
        check_jpeg(page, max(_SMALL_TILE, 4 * page.width * page.height))
    try:
        image = Image.open(BytesIO(_with_first_page(page)), formats=["TIFF"])
    except UnidentifiedImageError as error:
        raise ImageEncodingUnsupported(
            f"the TIFF holds samples of {page.bits[0]} bits with the photometric interpretation {page.photometric} "
            f"in the compression {page.compression}, which is not supported; {ADVICE}"
        ) from error
    image.getexif()[_ORIENTATION] = 1  # otherwise Pillow applies the orientation of XMP after it has stated the size
    image.load()
    if page.photometric == tags.PALETTE:
        colours = page.directory.array(_COLOUR_MAP)
        if len(colours) % 3 or not len(colours):
            raise ImageDamaged("the TIFF has no complete colour map")
        if colours.max() < 256:  # old writers store 8 bits (libtiff, checkcmap); Pillow takes the upper 8 of 16
            triples = colours.reshape(3, -1).T.astype(np.uint8)
            image.palette = ImagePalette.ImagePalette("RGB", triples.tobytes())
            image.putpalette(triples.tobytes())
    return to_rgb(image)


def _with_first_page(page: Page) -> bytes:
    """Return the file with this page as its first, without an orientation."""
    directory, changed = page.directory, bytearray(page.directory.file.encoded)
    order: Literal["little", "big"] = "little" if directory.file.order == "<" else "big"
    start, size = (8, 8) if directory.file.big else (4, 4)
    changed[start : start + size] = directory.position.to_bytes(size, order)
    for tag in (_ORIENTATION, _SAMPLE_FORMAT):  # the formats of a plain page are unsigned or undefined
        entry = directory.entries.get(tag)
        if entry and entry.code == "H":
            changed[entry.start : entry.start + 2 * entry.count] = (1).to_bytes(2, order) * entry.count
    return bytes(changed)
