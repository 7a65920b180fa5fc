import io
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from models import imaging
from models.errors import (
    ImageDamaged,
    ImageEmpty,
    ImageEncodingUnsupported,
    ImageError,
    ImageTooManyBytes,
    ImageTooManyPixels,
    ImageTooSmall,
    ImageUnreadable,
)
from models.imaging import ImageLimits, Photo
from models.imaging.signatures import scan_count
from tests.models.imaging.pictures import QUARTERS, STORED, pixels, wide_png
from tests.pictures import chunk, empty_png, encode, noise_jpeg, png_bomb
from tests.tiffs import TiffPage, tiff

HEIC = pytest.param(
    "HEIF", marks=pytest.mark.skipif("HEIF" not in imaging.FORMATS, reason="the extra `heic` is not installed")
)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", HEIC])
def test_turns_every_exif_orientation_upright(file_format: str, orientation: int) -> None:
    image = Image.fromarray(QUARTERS)
    stored = image.transpose(STORED[orientation]) if orientation in STORED else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = Photo(encode(stored, file_format, exif=exif, quality=95))
    raster = photo.raster().pixels
    assert (photo.width, photo.height) == (80, 48)
    for y, x in ((10, 20), (10, 60), (36, 20), (36, 60)):
        np.testing.assert_allclose(raster[y, x], QUARTERS[y, x], atol=25)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", HEIC])
def test_reads_the_colours_of_every_format(file_format: str) -> None:
    image = Image.new("RGB", (32, 32), (200, 40, 90))
    np.testing.assert_allclose(pixels(encode(image, file_format)).mean(axis=(0, 1)), (200, 40, 90), atol=6)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_reads_cmyk(file_format: str) -> None:
    image = Image.new("CMYK", (32, 32), (0, 255, 255, 0))
    np.testing.assert_allclose(pixels(encode(image, file_format))[16, 16], (255, 0, 0), atol=4)


def test_reads_grey() -> None:
    for file_format in ("JPEG", "PNG"):
        assert np.unique(pixels(encode(Image.new("L", (32, 32), 77), file_format))).tolist() == [77]


def test_scales_16_bit_values_instead_of_clipping_them() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    expected = np.round(ramp / 257)
    for suffix, source in (
        (".png", ramp),
        (".tiff", ramp),
        (".png", np.dstack([ramp] * 3)),
        (".tiff", np.dstack([ramp] * 3)),
    ):
        encoded = cv2.imencode(suffix, source)[1].tobytes()
        np.testing.assert_allclose(pixels(encoded)[..., 0], expected, atol=1)


def test_never_shows_hidden_colours() -> None:
    hidden = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    palette = Image.new("P", (32, 32), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
    encodings = [
        encode(hidden),
        encode(hidden, "WEBP", lossless=True, exact=True),
        encode(hidden, "AVIF"),
        encode(Image.new("LA", (32, 32), (10, 0))),
        encode(palette, transparency=1),
        encode(palette, "GIF", transparency=1),
        encode(Image.new("RGB", (32, 32), (1, 2, 3)), transparency=(1, 2, 3)),
    ]
    for encoded in encodings:
        assert pixels(encoded).min() == 255


def png_with_hidden_colour(depth: int, colour: int, pixel: bytes, hidden: bytes) -> bytes:
    """Return a 32 x 32 PNG of one pixel value, with a tRNS chunk that declares the colour `hidden` transparent."""
    header = struct.pack(">IIBBBBB", 32, 32, depth, colour, 0, 0, 0)
    rows = (b"\0" + pixel * (32 * depth * (1 if colour == 0 else 3) // 8 // len(pixel))) * 32
    chunks = [(b"IHDR", header), (b"tRNS", hidden), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*entry) for entry in chunks)


@pytest.mark.parametrize(
    ("depth", "colour", "pixel", "hidden"),
    [
        (1, 0, b"\0", b"\0\0"),
        (2, 0, b"\x55", b"\0\1"),
        (4, 0, b"\x77", b"\0\7"),
        (8, 0, b"\x33", b"\0\x33"),
        (16, 0, b"\x12\x34", b"\x12\x34"),
        (8, 2, b"\1\2\3", b"\0\1\0\2\0\3"),
        (16, 2, b"\x12\x34\x56\x78\x11\x22", b"\x12\x34\x56\x78\x11\x22"),
    ],
)
def test_never_shows_the_hidden_colour_of_a_png(depth: int, colour: int, pixel: bytes, hidden: bytes) -> None:
    assert pixels(png_with_hidden_colour(depth, colour, pixel, hidden)).min() == 255
    other = bytes(len(hidden) - 1) + b"\xff" if depth > 4 else b"\0\0" if depth > 1 else b"\0\1"
    assert pixels(png_with_hidden_colour(depth, colour, pixel, other)).min() < 255


def test_transparency_is_blended_with_white() -> None:
    assert pixels(encode(Image.new("RGBA", (600, 600), (200, 100, 0, 51))))[500, 500].tolist() == [244, 224, 204]


def test_reads_float_grey_of_any_range() -> None:
    for top, expected in ((1.0, 128), (255.0, 128), (65535.0, 128)):
        ramp = np.full((32, 32), top / 2, np.float32)
        ramp[0] = top
        ramp[1] = np.nan
        encoded = cv2.imencode(".tiff", ramp)[1].tobytes()
        assert abs(int(pixels(encoded)[16, 16, 0]) - expected) <= 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9])
def test_rejects_a_png_with_a_flipped_bit(share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    encoded = bytearray(encode(Image.fromarray(noise)))
    encoded[int(len(encoded) * share)] ^= 1
    photo = Photo(bytes(encoded))
    for _ in range(2):
        with pytest.raises(ImageDamaged):
            photo.raster()


def test_reads_exif_after_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    encoded = encode(Image.fromarray(QUARTERS).transpose(STORED[6]), exif=exif)
    start = encoded.index(b"eXIf") - 4
    length = 12 + int.from_bytes(encoded[start : start + 4], "big")
    end = encoded.index(b"IEND") - 4
    moved = encoded[:start] + encoded[start + length : end] + encoded[start : start + length] + encoded[end:]
    photo = Photo(moved)
    assert (photo.width, photo.height) == (80, 48)
    np.testing.assert_allclose(photo.raster().pixels[10, 20], QUARTERS[10, 20], atol=2)


def test_reads_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (32, 32), color) for color in ("red", "blue")]
    for file_format in ("GIF", "WEBP", "PNG"):
        encoded = encode(frames[0], file_format, save_all=True, append_images=frames[1:], lossless=True)
        np.testing.assert_allclose(pixels(encoded)[16, 16], (255, 0, 0), atol=2)


def test_decodes_a_jpeg_at_the_smallest_sufficient_eighth() -> None:
    encoded = noise_jpeg(800, 400)
    for scale, expected in ((0.01, 100), (0.125, 100), (0.126, 200), (0.3, 300), (0.5, 400), (0.9, 800), (5.0, 800)):
        raster = Photo(encoded).raster(scale)
        assert raster.pixels.shape[1] == expected
        assert raster.scale[0] == pytest.approx(expected / 800)


def grey_jpeg(factors: Sequence[int]) -> bytes:
    """Return a grey JPEG of 64 x 64 pixels whose three components have these sampling factors; all blocks are zero."""
    encoded = encode(Image.new("RGB", (64, 64), (128, 128, 128)), "JPEG", subsampling=0)
    frame, scan = encoded.index(b"\xff\xc0"), encoded.index(b"\xff\xda")
    blocks = [(factor >> 4) * (factor & 15) for factor in factors]
    across, down = (64 // (8 * max(side)) for side in ([f >> 4 for f in factors], [f & 15 for f in factors]))
    unit = "001010" * blocks[0] + "0000" * (blocks[1] + blocks[2])  # no difference, end of block (T.81, annex K.3)
    bits = unit * (across * down)
    rows = int(bits.ljust(-(-len(bits) // 8) * 8, "1"), 2).to_bytes(-(-len(bits) // 8))
    header = bytearray(encoded[: scan + 14])
    for component, factor in enumerate(factors):
        header[frame + 11 + 3 * component] = factor
    return bytes(header) + rows.replace(b"\xff", b"\xff\0") + b"\xff\xd9"


@pytest.mark.parametrize("factors", [(0x11, 0x11, 0x11), (0x22, 0x11, 0x11), (0x22, 0x12, 0x21), (0x21, 0x11, 0x21)])
def test_reads_a_jpeg_of_any_subsampling(factors: Sequence[int]) -> None:
    shown = Photo(grey_jpeg(factors)).raster(0.25)
    np.testing.assert_allclose(shown.pixels, 128, atol=1)


def test_reuses_a_raster_unless_it_is_too_small() -> None:
    photo = Photo(noise_jpeg(800, 400))
    small = photo.raster(0.25)
    assert photo.raster(0.125) is small
    large = photo.raster(0.5)
    assert large.pixels.shape == (200, 400, 3)
    assert photo.raster(0.25) is large


def test_a_reduced_jpeg_shows_the_same_photo(photos: Path) -> None:
    encoded = (photos / "group.jpg").read_bytes()
    full, half = Photo(encoded).raster().pixels, Photo(encoded).raster(0.5).pixels
    shrunk = cv2.resize(full, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk.astype(int) - half).mean() < 2


@pytest.mark.parametrize(
    ("encoded", "error", "code"),
    [
        (b"", ImageEmpty, "image_empty"),
        (b"not an image" * 50, ImageUnreadable, "image_unreadable"),
        (b"%PDF-1.7 ...", ImageUnreadable, "image_unreadable"),
        (bytes(1000), ImageUnreadable, "image_unreadable"),
        (noise_jpeg(64, 64)[:200], ImageDamaged, "image_damaged"),
        (empty_png(), ImageUnreadable, "image_unreadable"),
        (encode(Image.new("RGB", (1, 1))), ImageTooSmall, "image_too_small"),
        (encode(Image.new("RGB", (400, 15))), ImageTooSmall, "image_too_small"),
        (png_bomb(10_000), ImageTooManyPixels, "image_too_many_pixels"),
        (png_bomb(30_000), ImageTooManyPixels, "image_too_many_pixels"),
        (bytes(10 * 2**20 + 1), ImageTooManyBytes, "image_too_many_bytes"),
    ],
    ids=["empty", "text", "pdf", "zeros", "cut-header", "0x0", "1x1", "flat", "100MP", "900MP", "bytes"],
)
def test_rejects_an_image_by_its_header_with_a_specific_code(
    encoded: bytes, error: type[ImageError], code: str
) -> None:
    with pytest.raises(error) as caught:
        Photo(encoded)
    assert caught.value.code == code


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", HEIC])
def test_rejects_half_a_file(file_format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    encoded = encode(Image.fromarray(noise), file_format)
    with pytest.raises((ImageDamaged, ImageUnreadable)):
        Photo(encoded[: len(encoded) // 2]).raster()


def test_rejects_a_decompression_bomb_quickly_and_with_little_memory(tmp_path: Path) -> None:
    """A separate process is used, because the peak memory of this one may already be higher."""
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(png_bomb(30_000))
    assert bomb.stat().st_size < 110_000
    program = (
        "import resource, sys, time; from pathlib import Path\n"
        "from models.errors import ImageTooManyPixels; from models.imaging import Photo\n"
        "encoded = Path(sys.argv[1]).read_bytes()\n"
        "before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()\n"
        "try:\n    Photo(encoded)\nexcept ImageTooManyPixels:\n"
        "    print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(bomb)], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, done.stdout.split())
    assert seconds < 0.05
    assert kilobytes < 50_000


def test_limits_can_be_configured() -> None:
    encoded = noise_jpeg(100, 100)
    with pytest.raises(ImageTooManyPixels):
        Photo(encoded, ImageLimits(max_pixels=9_999))
    with pytest.raises(ImageTooManyBytes):
        Photo(encoded, ImageLimits(max_bytes=len(encoded) - 1))
    Photo(encoded, ImageLimits(max_pixels=10_000, max_bytes=len(encoded)))


def _seeds() -> list[bytes]:
    image, exif = Image.fromarray(QUARTERS), Image.Exif()
    exif[0x0112] = 6
    plain = [encode(image, name) for name in imaging.FORMATS if name != "HEIF"]
    modes = [encode(image.convert(mode)) for mode in ("L", "P", "RGBA", "LA", "1", "I;16")]
    wide = [
        tiff(TiffPage(QUARTERS.astype(np.uint16) * 257, 2, planes=True, deflate=True)),
        tiff(TiffPage((QUARTERS / 255).astype(np.float32), 2), big=True),
        tiff(TiffPage(QUARTERS[..., :1].astype(np.uint16), packed=12, subs=[TiffPage(QUARTERS, 2)]), order=">"),
        wide_png(QUARTERS.astype(np.uint16) * 16),
    ]
    return [
        *plain,
        *wide,
        *modes,
        encode(image.convert("CMYK"), "JPEG"),
        encode(image, "JPEG", exif=exif),
        encode(image, exif=exif),
    ]


SEEDS = _seeds()


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_mutated_images_are_decoded_or_rejected_with_a_code(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 8))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.integers(0, 3)) == 0:
        del encoded[data.draw(st.integers(1, len(encoded))) :]
    try:
        raster = Photo(bytes(encoded), ImageLimits(max_pixels=1_000_000)).raster().pixels
    except ImageError as error:
        assert error.code
    else:
        assert raster.dtype == np.uint8
        assert raster.ndim == 3
        assert raster.shape[2] == 3


def test_a_progressive_jpeg_with_many_scans_is_refused_before_it_is_decoded() -> None:
    """Each scan passes over all pixels, however few bytes it has."""
    ok, encoded = cv2.imencode(".jpg", np.zeros((2000, 2000), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    assert ok
    photo = encoded.tobytes()
    assert Photo(photo).raster().pixels.shape == (2000, 2000, 3)
    last = photo.rindex(b"\xff\xda")
    with pytest.raises(ImageEncodingUnsupported, match="scans of 2000 x 2000 pixels"):
        Photo(photo[:-2] + photo[last:-2] * 500 + photo[-2:])


@pytest.mark.parametrize("file_format", ["AVIF", HEIC])
def test_a_cut_image_of_a_supported_container_is_damaged(file_format: str) -> None:
    encoded = encode(Image.fromarray(QUARTERS), file_format)
    for length in (60, len(encoded) // 2, len(encoded) - 20):
        with pytest.raises(ImageDamaged, match="truncated or corrupt"):
            Photo(encoded[:length]).raster()


def test_a_bmp_whose_opacity_is_0_everywhere_is_opaque() -> None:
    """Many programs fill the fourth byte with 0."""
    colours = np.random.default_rng(0).integers(0, 255, (40, 30, 3), np.uint8)

    def bmp(opacity: "np.ndarray[Any, Any]") -> bytes:
        pixels = np.dstack([colours[::-1, :, ::-1], opacity[::-1]]).tobytes()
        header = struct.pack("<IiiHHIIiiII", 108, 30, 40, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
        header += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + bytes(52)
        return b"BM" + struct.pack("<IHHI", 122 + len(pixels), 0, 0, 122) + header + pixels

    opacity = np.zeros((40, 30), np.uint8)
    np.testing.assert_array_equal(Photo(bmp(opacity)).raster().pixels, colours)
    opacity[0, 0] = 255
    assert (Photo(bmp(opacity)).raster().pixels[1:] == 255).all(), "some opacity means that there is opacity"


def test_bytes_that_look_like_scans_but_are_not_do_not_count() -> None:
    """Motion photos end with a video, and segments hold thumbnails; any bytes may occur in them."""
    stored = io.BytesIO()
    Image.new("RGB", (2000, 2000), "grey").save(stored, "JPEG", progressive=True)
    photo, markers = stored.getvalue(), b"\xff\xda" * 3000
    thumbnail = b"\xff\xe1" + (2 + len(markers)).to_bytes(2, "big") + markers
    scans = scan_count(photo)
    assert scans > 1
    for decoy in (photo + markers, photo[:2] + thumbnail + photo[2:], photo[:-2] + thumbnail + photo[-2:]):
        assert scan_count(decoy) == scans
        assert Photo(decoy).raster().pixels.shape == (2000, 2000, 3)
    last = photo.rindex(b"\xff\xda")
    filled = photo[:2] + b"\xff" * 9 + photo[2:last] + b"\xff\xd8\xff\x01" + photo[last:]
    assert scan_count(filled) == scans, "fill bytes and markers without a length"


def test_counting_scans_takes_no_seconds() -> None:
    for filler in (b"\xff\xe0\0\2", b"\xff\xda\0\2", b"\xff\x01", b"\xff\0", b"\xff\xd0", b"\xff"):
        start = time.perf_counter()
        scan_count(b"\xff\xd8" + filler * (2**24 // len(filler)))
        assert time.perf_counter() - start < 1


def test_a_cut_cmyk_jpeg_is_damaged() -> None:
    """Pillow fills the missing rows with grey."""
    stored = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (200, 300, 3), np.uint8)
    Image.fromarray(pixels).convert("CMYK").save(stored, "JPEG")
    encoded = stored.getvalue()
    assert Photo(encoded).raster().pixels.shape == (200, 300, 3)
    with pytest.raises(ImageDamaged):
        Photo(encoded[: len(encoded) // 2] + b"\xff\xd9").raster()
