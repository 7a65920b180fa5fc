"""JPEG 2000 as JP2 and as a bare codestream: the expected picture, or a sentence."""

import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image

from models import imaging
from models.errors import (
    ImageDamaged,
    ImageEncodingUnsupported,
    ImageError,
    ImageSeveralPages,
    ImageTooManyPixels,
    ImageTooSmall,
)
from models.imaging import ImageLimits, Photo
from tests.models.imaging.pictures import GREY, QUARTERS, assert_grey, assert_upright, jp2, pixels

pytestmark = pytest.mark.skipif("JPEG2000" not in imaging.FORMATS, reason="Pillow was built without OpenJPEG")

IMAGE = Image.fromarray(QUARTERS)
SIZ, COD, SOT = b"\xff\x51", b"\xff\x52", b"\xff\x90"


def with_box(encoded: bytes, kind: bytes, content: bytes) -> bytes:
    """Return a file with one more box at the end of its header."""
    start = encoded.index(b"jp2h") - 4
    size = int.from_bytes(encoded[start : start + 4])
    box = struct.pack(">I4s", 8 + len(content), kind) + content
    header = struct.pack(">I", size + len(box)) + encoded[start + 4 : start + size] + box
    return encoded[:start] + header + encoded[start + size :]


def patched(encoded: bytes, marker: bytes, offset: int, form: str, value: int) -> bytes:
    changed = bytearray(encoded)
    struct.pack_into(form, changed, encoded.index(marker) + 2 + offset, value)
    return bytes(changed)


def with_precincts(encoded: bytes, size: int, layers: int = 1) -> bytes:
    """Return a codestream whose precincts have this size at all resolutions, as exponents of two."""
    place = encoded.index(COD)
    (length,) = struct.unpack_from(">H", encoded, place + 2)
    segment = bytearray(encoded[place + 4 : place + 2 + length])
    segment[0] |= 1
    segment[2:4] = struct.pack(">H", layers)
    segment += bytes([size]) * (segment[5] + 1)
    return encoded[: place + 2] + struct.pack(">H", len(segment) + 2) + segment + encoded[place + 2 + length :]


@pytest.mark.parametrize("raw", [False, True])
def test_reads_colours_grey_opacity_and_inks(raw: bool) -> None:
    assert_upright(jp2(IMAGE, raw), atol=2)
    assert_grey(jp2(IMAGE.convert("L"), raw))
    half = IMAGE.copy()
    half.putalpha(128)
    np.testing.assert_allclose(pixels(jp2(half, raw)), (QUARTERS.astype(float) + 255) / 2, atol=3)
    if not raw:
        assert_upright(jp2(IMAGE.convert("YCbCr")), atol=4)
        assert_upright(jp2(IMAGE.convert("CMYK")), atol=4)


def test_the_photo_states_its_format() -> None:
    assert Photo(jp2(IMAGE)).format == Photo(jp2(IMAGE, raw=True)).format == "JPEG2000"


@pytest.mark.parametrize("factor", [2, 16, 64, 257])
def test_reads_components_of_9_to_16_bits(factor: int) -> None:
    colours = QUARTERS[..., ::-1].astype(np.uint16) * factor
    assert_upright(cv2.imencode(".jp2", colours)[1].tobytes(), atol=6)
    assert_grey(cv2.imencode(".jp2", GREY.astype(np.uint16) * factor)[1].tobytes(), atol=6)


def test_reads_premultiplied_opacity() -> None:
    half = Image.fromarray(QUARTERS // 2)
    half.putalpha(128)
    encoded = jp2(half)
    place = encoded.index(b"cdef") + 6
    entries = bytearray(encoded[place : place + 24])
    number = [int.from_bytes(entries[at + 2 : at + 4]) for at in range(0, 24, 6)].index(1)
    entries[number * 6 + 3] = 2
    shown = pixels(encoded[:place] + bytes(entries) + encoded[place + 24 :])
    np.testing.assert_allclose(shown, QUARTERS // 2 + 127.0, atol=2)


def test_reads_a_palette_with_repeated_colours() -> None:
    index = np.zeros((48, 80), np.uint8)
    index[:24, 40:], index[24:, :40], index[24:, 40:] = 3, 4, 5
    colours = [(250, 10, 10), (250, 10, 10), (0, 0, 0), (10, 10, 250), (10, 250, 10), (250, 250, 10)]
    palette = struct.pack(">HB3B", len(colours), 3, 7, 7, 7) + bytes(sum(colours, ()))
    mapping = b"".join(bytes((0, 0, 1, column)) for column in range(3))
    encoded = jp2(Image.fromarray(index)).replace(b"colr\1\0\0\0\0\0\x11", b"colr\1\0\0\0\0\0\x10")
    assert_upright(with_box(with_box(encoded, b"pclr", palette), b"cmap", mapping), atol=1)
    wide = struct.pack(">HB3B", 1, 3, 11, 11, 11) + bytes(6)
    with pytest.raises(ImageEncodingUnsupported, match="a palette of another form"):
        Photo(with_box(with_box(encoded, b"pclr", wide), b"cmap", mapping))


Change = Callable[[bytes], bytes]
SPACE = b"colr\1\0\0"
REFUSED: dict[str, tuple[Change, type[ImageError], str]] = {
    "Lab": (lambda e: e.replace(SPACE + b"\0\0\0\x10", SPACE + b"\0\0\0\x0e"), ImageEncodingUnsupported, "space 14"),
    "a bilevel space": (
        lambda e: e.replace(SPACE + b"\0\0\0\x10", SPACE + bytes(4)),
        ImageEncodingUnsupported,
        "space 0",
    ),
    "channels in another order": (
        lambda e: with_box(e, b"cdef", struct.pack(">10H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1)),
        ImageEncodingUnsupported,
        "channels in another order",
    ),
    "another size in the boxes": (lambda e: patched(e, b"ihdr", 2, ">I", 40), ImageDamaged, "state two sizes"),
    "two images": (lambda e: e + e[e.index(b"jp2c") - 4 :], ImageSeveralPages, "has 2 images; send one image"),
    "no codestream": (lambda e: e[: e.index(b"jp2c") - 4], ImageDamaged, "no codestream"),
    "1,000,000 boxes": (
        lambda e: e[:12] + struct.pack(">I4s", 8, b"free") * 10**6 + e[12:],
        ImageDamaged,
        "no codestream",
    ),
    "signed components": (lambda e: patched(e, SIZ, 38, ">B", 0x87), ImageEncodingUnsupported, "signed components"),
    "20 bits": (lambda e: patched(e, SIZ, 38, ">B", 19), ImageEncodingUnsupported, "up to 20 bits"),
    "16,384 components": (lambda e: patched(e, SIZ, 36, ">H", 16_384), ImageDamaged, "corrupt"),
    "no width": (lambda e: patched(e, SIZ, 4, ">I", 0), ImageDamaged, "corrupt"),
    "an offset behind the end": (lambda e: patched(e, SIZ, 12, ">I", 81), ImageDamaged, "corrupt"),
    "a tile without pixels": (lambda e: patched(e, SIZ, 20, ">I", 0), ImageDamaged, "corrupt"),
    "two tiles, of which one is there": (lambda e: patched(e, SIZ, 20, ">I", 40), ImageDamaged, "tiles are missing"),
    "a tile-part behind the end": (lambda e: patched(e, SOT, 4, ">I", 10**6), ImageDamaged, "truncated"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_with_a_sentence(name: str) -> None:
    change, error, words = REFUSED[name]
    with pytest.raises(error, match=words):
        Photo(change(jp2(IMAGE)))


@pytest.mark.parametrize(
    "change",
    [
        lambda encoded: patched(encoded, SIZ, 4, ">I", 100_000),
        lambda encoded: patched(patched(encoded, SIZ, 20, ">I", 20), SIZ, 24, ">I", 20),
        lambda encoded: with_precincts(encoded, 0x11),
        lambda encoded: with_precincts(encoded, 0x22),
        lambda encoded: with_precincts(encoded, 0x55, layers=65_535),
    ],
    ids=["pixels", "tiles", "precincts", "code-blocks", "layers"],
)
def test_refuses_a_codestream_for_which_openjpeg_would_allocate_gigabytes(change: Change) -> None:
    flat = jp2(Image.new("L", (2500, 2500)), raw=True)
    assert Photo(flat).width == 2500
    with pytest.raises(ImageTooManyPixels):
        Photo(change(flat))


def test_precincts_of_a_tile_header_count_too() -> None:
    flat = jp2(Image.new("L", (2500, 2500)), raw=True)
    cod = with_precincts(flat, 0x22)
    segment = cod[cod.index(COD) : cod.index(COD) + 2 + struct.unpack_from(">H", cod, cod.index(COD) + 2)[0]]
    place = flat.index(SOT) + 12
    longer = flat[:place] + segment + flat[place:]
    (size,) = struct.unpack_from(">I", flat, flat.index(SOT) + 6)
    with pytest.raises(ImageTooManyPixels, match="blocks or layers"):
        Photo(patched(longer, SOT, 4, ">I", size + len(segment)))


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9, 0.99])
def test_refuses_a_file_that_is_cut_off(share: float, raw: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    encoded = jp2(Image.fromarray(noise), raw)
    with pytest.raises(ImageError):
        Photo(encoded[: int(len(encoded) * share)]).raster()


def test_checks_the_size_before_decoding() -> None:
    with pytest.raises(ImageTooManyPixels):
        Photo(jp2(IMAGE), ImageLimits(max_pixels=1000))
    with pytest.raises(ImageTooSmall):
        Photo(jp2(IMAGE.resize((80, 10))))
