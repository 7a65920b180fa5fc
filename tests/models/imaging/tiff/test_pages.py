import struct
import time

import numpy as np
import pytest

from models.errors import ImageDamaged, ImageEncodingUnsupported, ImageError, ImageSeveralPages, ImageTooManyPixels
from models.imaging import ImageLimits, Photo
from tests.models.imaging.pictures import GREY, QUARTERS, assert_upright
from tests.tiffs import LONG, SHORT, Tags, TiffPage, tiff

REDUCED: Tags = {254: (LONG, [1])}
MASK: Tags = {254: (LONG, [4])}
SMALL = np.ascontiguousarray(QUARTERS[::2, ::2])
FULL = TiffPage(QUARTERS, 2)
THUMBNAIL = TiffPage(SMALL, 2, tags=REDUCED)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(
    "pages",
    [
        [FULL],
        [THUMBNAIL, FULL],
        [FULL, THUMBNAIL],
        [TiffPage(SMALL, 2, tags={255: (SHORT, [2])}), TiffPage(QUARTERS, 2, tags={255: (SHORT, [1])})],
        [TiffPage(SMALL, 2, tags={254: (LONG, [3])}), TiffPage(QUARTERS, 2, tags={254: (LONG, [2])})],
        [FULL, TiffPage(np.ones((48, 80, 1), np.uint8), tags=MASK)],
        [TiffPage(SMALL, 2, tags=REDUCED, subs=[FULL])],
        [TiffPage(SMALL, 2, tags=REDUCED, subs=[TiffPage(QUARTERS.astype(np.uint16) * 257, 2)])],
        [TiffPage(QUARTERS, 2, subs=[THUMBNAIL, THUMBNAIL])],
        [THUMBNAIL, TiffPage(QUARTERS, 2, tags=REDUCED)],
    ],
)
def test_reads_the_only_full_page(pages: list[TiffPage], order: str, big: bool) -> None:
    assert_upright(tiff(*pages, order=order, big=big))


@pytest.mark.parametrize("count", [2, 3, 40])
def test_names_the_number_of_full_pages(count: int) -> None:
    blank = TiffPage(np.full((60, 60, 3), 255, np.uint8), 2)
    with pytest.raises(ImageSeveralPages, match=f"the TIFF has {count} pages at full size; send the page"):
        Photo(tiff(blank, *[FULL] * (count - 1), THUMBNAIL))


def test_a_file_of_masks_has_no_photo() -> None:
    with pytest.raises(ImageEncodingUnsupported, match="no page with a photo"):
        Photo(tiff(TiffPage(GREY[..., None], tags=MASK)))


@pytest.mark.parametrize(
    ("photometric", "words"), [(32803, "a mosaic of a sensor"), (34892, "linear samples of a sensor")]
)
def test_a_raw_photo_is_refused_instead_of_its_thumbnail(photometric: int, words: str) -> None:
    with pytest.raises(ImageEncodingUnsupported, match=words):
        Photo(tiff(TiffPage(SMALL, 2, tags=REDUCED, subs=[TiffPage(GREY[..., None], photometric)])))


def chain(count: int, entry: bytes, loop: bool) -> bytes:
    """Return a file of `count` directories of one entry; the last points to the first or to nothing."""
    ends = [8 + 18 * number for number in range(1, count)] + [8 if loop else 0]
    return b"II*\0\x08\0\0\0" + b"".join(struct.pack("<H", 1) + entry + struct.pack("<I", end) for end in ends)


def sub_directories(count: int) -> bytes:
    """Return a file whose one directory names `count` sub-directories that overlap each other."""
    tags = [(256, 4, 1, 100), (257, 4, 1, 100), (330, 13, count, 64)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    first = (b"II*\0\x08\0\0\0" + struct.pack("<H", 3) + entries).ljust(64, b"\0")
    return first + np.arange(8, 8 + count, dtype="<u4").tobytes()


def tags_of_the_whole_file(count: int) -> bytes:
    entries = struct.pack("<HHIIHHII", 256, 4, 1, 100, 257, 4, 1, 100)
    entries += b"".join(struct.pack("<HHII", 1000 + number, 1, 2**22, 8) for number in range(count))
    return (b"II*\0\x08\0\0\0" + struct.pack("<H", count + 2) + entries).ljust(2**22 + 100, b"\0")


SIZE = struct.pack("<HHII", 256, 4, 1, 100)
HOSTILE = {
    "500,000 directories": chain(500_000, SIZE, loop=False),
    "directories in a loop": chain(5, SIZE, loop=True),
    "65,535 entries": b"II*\0\x08\0\0\0\xff\xff" + SIZE * 65_535,
    "1,000,000 sub-directories": sub_directories(1_000_000),
    "4,000 tags that hold the whole file": tags_of_the_whole_file(4000),
    "no directory": b"II*\0\0\0\0\0",
    "a directory behind the end": b"II*\0\xff\xff\xff\xff",
    "a BigTIFF without end": b"II+\0\x08\0\0\0" + b"\xff" * 8,
    "a BigTIFF with 2^64 entries": b"II+\0\x08\0\0\0" + struct.pack("<Q", 16) + b"\xff" * 60,
    "strips behind the end": tiff(TiffPage(QUARTERS, 2, tags={273: (LONG, [2**31])})),
    "strips of which one is given": tiff(TiffPage(QUARTERS.astype(np.uint16), 2, tags={278: (LONG, [4])})),
    "negative width": tiff(TiffPage(QUARTERS, 2, tags={256: (9, [-80])})),
    "2^32 pixels": tiff(TiffPage(QUARTERS, 2, tags={256: (LONG, [2**16]), 257: (LONG, [2**16])})),
    "tiles of 2^36 pixels": tiff(TiffPage(QUARTERS, 2, tags={322: (LONG, [2**20]), 323: (LONG, [2**16])})),
    "tiles without pixels": tiff(TiffPage(QUARTERS.astype(np.uint16), 2, tags={322: (LONG, [0]), 323: (LONG, [0])})),
    "65,535 samples": tiff(TiffPage(QUARTERS, 2, tags={277: (SHORT, [65_535])})),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_bounded_time(name: str) -> None:
    start = time.process_time()
    with pytest.raises(ImageError) as caught:
        Photo(HOSTILE[name]).raster()
    assert isinstance(caught.value, ImageDamaged | ImageTooManyPixels | ImageEncodingUnsupported)
    assert time.process_time() - start < 5  # unbounded, these take minutes


def test_limits_the_bytes_of_samples_and_the_number_of_strips() -> None:
    wide = tiff(TiffPage(np.zeros((64, 64, 3), np.float64), 2))
    with pytest.raises(ImageTooManyPixels, match="98304 bytes of samples; at most 40000"):
        Photo(wide, ImageLimits(max_pixels=5_000))
    strips: Tags = {273: (LONG, [8] * 70_000), 278: (LONG, [1]), 279: (LONG, [16] * 70_000)}
    with pytest.raises(ImageDamaged, match="more than 65536 strips"):
        Photo(tiff(TiffPage(np.zeros((70_000, 16, 1), np.uint8), tags=strips)))


def test_a_file_of_many_strips_is_read() -> None:
    rows = np.arange(10_000, dtype=np.uint16)[:, None, None].repeat(16, axis=1)
    strips: Tags = {273: (LONG, list(range(8, 320_008, 32))), 278: (LONG, [1]), 279: (LONG, [32] * 10_000)}
    pixels = Photo(tiff(TiffPage(rows, tags=strips))).raster().pixels
    np.testing.assert_allclose(pixels[:, 7, 0], np.arange(10_000) * 255 / 16_383, atol=1)
