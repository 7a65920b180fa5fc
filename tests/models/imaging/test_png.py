import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged
from models.imaging import Photo
from tests.models.imaging.pictures import GREY, QUARTERS, assert_grey, assert_upright, pixels
from tests.pictures import chunk, encode

GREY_TYPE, RGB, GREY_AND_ALPHA, RGBA = 0, 2, 4, 6
Chunks = list[tuple[bytes, bytes]]


def png(samples: NDArray[np.uint16], colour_type: int, extra: Chunks | None = None, rows: bytes | None = None) -> bytes:
    height, width = samples.shape[:2]
    packed = rows or zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), *(extra or []), (b"IDAT", packed), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*entry) for entry in chunks)


WIDE, WIDE_GREY = QUARTERS.astype(np.uint16), GREY[..., None].astype(np.uint16)


@pytest.mark.parametrize("factor", [2, 16, 64, 257])
def test_reads_grey_with_alpha_of_any_number_of_bits(factor: int) -> None:
    opaque, half = (np.full((48, 80, 1), value, np.uint16) for value in (65535, 32768))
    assert_grey(png(np.dstack([WIDE_GREY * factor, opaque]), GREY_AND_ALPHA), atol=6)
    blended = (GREY[..., None].astype(float) + 255) / 2
    shown = pixels(png(np.dstack([WIDE_GREY * factor, half]), GREY_AND_ALPHA))
    np.testing.assert_allclose(shown, np.repeat(blended, 3, axis=2), atol=6)


def test_sbit_scales_unscaled_samples_only() -> None:
    stated = [(b"sBIT", bytes([12] * 3))]
    np.testing.assert_allclose(pixels(png(WIDE * 4, RGB, stated)), QUARTERS / 4, atol=1)
    assert_upright(png(WIDE * 16, RGB, stated), atol=2)
    assert_upright(png(WIDE * 257, RGB, stated), atol=2)
    dark = pixels(png(WIDE_GREY * 4, GREY_TYPE, [(b"sBIT", b"\x0c")]))
    np.testing.assert_allclose(dark[..., 0], GREY / 4, atol=1)
    assert_upright(png(WIDE * 4, RGB, [(b"sBIT", b"\0\0\0")]), atol=6)


def test_never_shows_the_hidden_colour_of_12_bits_in_16() -> None:
    for samples, kind in ((WIDE * 16, RGB), (WIDE_GREY * 16, GREY_TYPE)):
        hidden = samples[10, 20].astype(">u2").tobytes()
        shown = pixels(png(samples, kind, [(b"tRNS", hidden)]))
        assert shown[10, 20].tolist() == [255] * 3
        np.testing.assert_allclose(shown[10, 60], QUARTERS[10, 60] if kind == RGB else [GREY[10, 60]] * 3, atol=6)


@pytest.mark.parametrize(
    "rows", [zlib.compress(bytes(481 * 20)), zlib.compress(bytes(481 * 48))[:-20], b"no deflate stream"]
)
def test_refuses_rows_that_are_missing_in_silence(rows: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ImageDamaged):
        Photo(png(WIDE, RGB, rows=rows)).raster()
    assert capfd.readouterr().err == ""


def test_ignores_chunks_about_which_libpng_writes_to_standard_error(capfd: pytest.CaptureFixture[str]) -> None:
    odd = [(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")), (b"sPLT", b"\0"), (b"hIST", b"\0")]
    assert_upright(png(WIDE * 257, RGB, odd), atol=2)
    assert capfd.readouterr().err == ""


def test_a_text_bomb_is_not_expanded() -> None:
    bomb = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(bytes(60_000_000), 9))
    encoded = encode(Image.fromarray(QUARTERS))
    place = encoded.index(b"IEND") - 4
    tracemalloc.start()
    try:
        assert Photo(encoded[:place] + bomb * 16 + encoded[place:]).width == 80
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("text", [b"", b"\nexif\n", b"\nexif\n  4\nzz11", b"\nexif\n   3\n123", b"\xff\xfe"])
def test_a_malformed_raw_profile_states_no_orientation(text: bytes) -> None:
    encoded = encode(Image.fromarray(QUARTERS))
    place = encoded.index(b"IEND") - 4
    kinds = chunk(b"tEXt", b"Raw profile type exif\0" + text) + chunk(b"zTXt", b"Raw profile type exif\0\0" + text)
    assert_upright(encoded[:place] + kinds + encoded[place:], atol=1)
