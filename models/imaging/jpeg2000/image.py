"""JPEG 2000 photos: JP2 files (ISO/IEC 15444-1, annex I) and bare codestreams. Passport chips hold both (ICAO 9303)."""

from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageSeveralPages, ImageTooManyPixels
from models.imaging.boxes import Box, read_boxes
from models.imaging.depth import to_8_bits, white_of
from models.imaging.jpeg2000.codestream import SIGNATURE, check_codestream, read_codestream
from models.imaging.limits import ImageLimits
from models.imaging.orientation import orientation_from
from models.imaging.pixels import decoded, grey_to_rgb, is_wide, over_white, to_rgb

BOX_SIGNATURE = b"\0\0\0\x0cjP  \r\n\x87\n"

_SRGB, _GREY, _SYCC, _CMYK = 16, 17, 18, 12
_COLOUR_SPACES = {12: 4, 16: 3, 17: 1, 18: 3}  # colours of a pixel
_EXIF_UUID = b"JpgTiffExif->JP2"
_XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_MAX_PILLOW_PIXELS = 4_000_000  # Pillow stops all threads while it decodes, and OpenCV does not
_ASSOCIATED = 2  # type of a channel: opacity with which the colours are multiplied


class Jpeg2000Image:
    """A JPEG 2000 image whose boxes and main header have been read."""

    format = "JPEG2000"
    plain_jpeg = False

    def __init__(self, encoded: bytes, limits: ImageLimits) -> None:
        """Read the header and check it.

        Raises:
            ImageDamaged: The header is corrupt, or a part of the codestream is missing.
            ImageSeveralPages: The file has several codestreams.
            ImageEncodingUnsupported: The colour space or the form of the components is not supported.
            ImageTooManyPixels: The image has too many pixels, tiles or blocks.
            ImageTooSmall: A side is too short.
        """
        self._encoded = encoded
        boxes = [] if encoded.startswith(SIGNATURE) else list(read_boxes(encoded))
        start = _codestream_start(encoded, boxes)
        self._stream = stream = read_codestream(encoded, start)
        self.size = (stream.width, stream.height)
        limits.check_size(*self.size)
        check_codestream(encoded, start, stream)
        header = {box.kind: box.content for box in reversed(_header(boxes))}
        self._space: int | None = None
        self._palette: NDArray[np.uint8] | None = None
        self._premultiplied = False
        if boxes:
            self._read_header(header)
        uuids = {box.content[:16]: box.content[16:] for box in reversed(boxes) if box.kind == b"uuid"}
        self.orientation = orientation_from(uuids.get(_EXIF_UUID, b""), uuids.get(_XMP_UUID, b""))

    def _read_header(self, header: dict[bytes, bytes]) -> None:
        size = header.get(b"ihdr", b"").ljust(14, b"\0")
        stated = (int.from_bytes(size[4:8]), int.from_bytes(size[:4]), int.from_bytes(size[8:10]))
        if stated != (*self.size, len(self._stream.bits)):
            raise ImageDamaged("the header of the JPEG 2000 image is corrupt: boxes and codestream state two sizes")
        self._space = _colour_space(header.get(b"colr", b""))
        if b"pclr" in header:
            self._palette = _palette(header, self._stream.bits)
        elif self._space and len(self._stream.bits) not in (self._space_size, self._space_size + 1):
            raise _unsupported(f"{len(self._stream.bits)} components in the colour space {self._space}")
        self._premultiplied = _is_premultiplied(header.get(b"cdef", b""))

    @property
    def _space_size(self) -> int:
        return _COLOUR_SPACES.get(self._space or _SRGB, 3)

    @property
    def _is_plain(self) -> bool:
        """Whether OpenCV decodes the image: grey or RGB of 8 or 16 bits. Pillow keeps the upper 8 of 16 bits only."""
        bits = self._stream.bits
        space = (None, _GREY) if len(bits) == 1 else (None, _SRGB)
        return len(bits) in (1, 3) and set(bits) in ({8}, {16}) and self._space in space and self._palette is None

    def decode(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, RGB, as stored.

        Raises:
            ImageDamaged: The image is truncated or corrupt.
        """
        return decoded("JPEG 2000", self._decode)

    def _decode(self) -> NDArray[np.uint8]:
        bits = self._stream.bits
        if self._is_plain:
            pixels = cv2.imdecode(np.frombuffer(self._encoded, np.uint8), cv2.IMREAD_UNCHANGED)
            shape = self.size[::-1] if len(bits) == 1 else (*self.size[::-1], 3)
            if pixels is not None and pixels.shape == shape:
                narrow = to_8_bits(pixels, white_of(pixels, 16)) if pixels.dtype == np.uint16 else pixels
                return cv2.cvtColor(narrow, cv2.COLOR_GRAY2RGB if len(bits) == 1 else cv2.COLOR_BGR2RGB).astype(
                    np.uint8, copy=False
                )
        if self.size[0] * self.size[1] > _MAX_PILLOW_PIXELS:
            raise ImageTooManyPixels(
                f"the JPEG 2000 image has {self.size[0]} x {self.size[1]} pixels; of its form at most "
                f"{_MAX_PILLOW_PIXELS} are accepted"
            )
        image = Image.open(BytesIO(self._encoded), formats=["JPEG2000"])
        image.load()
        if self._palette is not None:
            return np.take(self._palette, np.asarray(image.getchannel(0)), axis=0)
        if is_wide(image):  # Pillow keeps the values
            return grey_to_rgb(np.asarray(image), bits[0])
        if self._premultiplied and image.mode in ("LA", "RGBA"):
            rgba = np.asarray(image.convert("RGBA"))
            return over_white(rgba[..., :3], rgba[..., 3], premultiplied=True)
        return to_rgb(image)


def _codestream_start(encoded: bytes, boxes: list[Box]) -> int:
    """Return the position of the codestream.

    Raises:
        ImageDamaged: The file has no codestream.
        ImageSeveralPages: The file has several.
    """
    if encoded.startswith(SIGNATURE):
        return 0
    streams = [box for box in boxes if box.kind == b"jp2c"]
    if len(streams) > 1:
        raise ImageSeveralPages(f"the JPEG 2000 file has {len(streams)} images; send one image as a file of its own")
    if not streams or not streams[0].content.startswith(SIGNATURE):
        raise ImageDamaged("the JPEG 2000 image is truncated or corrupt: it has no codestream")
    return encoded.index(streams[0].content)


def _header(boxes: list[Box]) -> list[Box]:
    return [inner for box in boxes if box.kind == b"jp2h" for inner in read_boxes(box.content)]


def _colour_space(colr: bytes) -> int | None:
    """Return the enumerated colour space; None for a profile of RGB or grey.

    Raises:
        ImageEncodingUnsupported: The colour space is another one.
    """
    if colr[:1] == b"\1":
        space = int.from_bytes(colr[3:7])
        if space in _COLOUR_SPACES:
            return space
        raise _unsupported(f"the colour space {space}")
    if colr[19:23] not in (b"", b"RGB ", b"GRAY"):
        raise _unsupported(f"colours of the profile {colr[19:23]!r}")
    return None


def _is_premultiplied(cdef: bytes) -> bool:
    """Return whether the colours are multiplied by the opacity (I.5.3.6).

    Raises:
        ImageEncodingUnsupported: The channels are in another order.
    """
    channels = [
        tuple(int.from_bytes(cdef[at + 2 * n : at + 2 * n + 2]) for n in range(3)) for at in range(2, len(cdef), 6)
    ]
    for number, kind, colour in channels:
        if kind == 0 and colour != number + 1:
            raise _unsupported("channels in another order")
    return any(kind == _ASSOCIATED for _, kind, _ in channels)


def _palette(header: dict[bytes, bytes], bits: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return (256, 3) uint8, the colours of a palette (I.5.3.4).

    Raises:
        ImageEncodingUnsupported: The palette is not one of 8-bit grey or RGB for one component of 8 bits.
    """
    palette, mapping = header[b"pclr"], header.get(b"cmap", b"")
    entries, columns = int.from_bytes(palette[:2]), palette[2] if len(palette) > 2 else 0
    direct = b"".join(bytes((0, 0, 1, column)) for column in range(columns))
    values = np.frombuffer(palette, np.uint8)[3 + columns :]
    plain = columns in (1, 3) and set(palette[3 : 3 + columns]) == {7} and bits == (8,) and entries <= 256
    if not plain or mapping != direct or len(values) != entries * columns:
        raise _unsupported("a palette of another form than 8-bit RGB")
    colours = np.zeros((256, 3), np.uint8)
    colours[:entries] = values.reshape(entries, columns)
    return colours


def _unsupported(found: str) -> ImageEncodingUnsupported:
    return ImageEncodingUnsupported(f"the JPEG 2000 image has {found}, which is not supported; save it as sRGB or grey")
