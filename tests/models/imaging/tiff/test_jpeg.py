"""JPEG within TIFF: complete photos are read, those that are cut are refused as JPEG files are."""

import io
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged, ImageEncodingUnsupported
from models.imaging import Photo
from tests.models.imaging.pictures import QUARTERS, assert_upright
from tests.tiffs import LONG, SHORT, Tags, TiffPage, tiff

RGB, CMYK, YCBCR = 2, 5, 6
NOISE = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)


def by_pillow(picture: NDArray[np.uint8], mode: str = "RGB", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, "TIFF", compression="jpeg", **options)
    return stream.getvalue()


def as_jpeg(picture: NDArray[np.uint8], **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def in_tiff(
    stream: bytes, picture: NDArray[np.uint8], compression: int, length: int | None = None, **tags: int
) -> bytes:
    """Return a TIFF whose strip is a JPEG of this picture, of which the first `length` bytes belong to the strip."""
    height, width, samples = picture.shape
    length = len(stream) if length is None else length
    content: Tags = {
        256: (LONG, [width]),
        257: (LONG, [height]),
        258: (SHORT, [8] * samples),
        259: (SHORT, [compression]),
        277: (SHORT, [samples]),
        278: (LONG, [height]),
        279: (LONG, [length]),
        339: (SHORT, [1] * samples),
        530: (SHORT, [2, 2]),
        **({513: (LONG, [8]), 514: (LONG, [length])} if compression == 6 else {}),
        **{int(tag.removeprefix("t")): (LONG, [value]) for tag, value in tags.items()},
    }
    return tiff(TiffPage(np.frombuffer(stream, np.uint8).reshape(1, -1, 1), YCBCR, tags=content))


@pytest.mark.parametrize("compression", [6, 7])
@pytest.mark.parametrize("progressive", [False, True])
def test_reads_a_stream_that_is_complete_and_refuses_it_cut(compression: int, progressive: bool) -> None:
    assert_upright(in_tiff(as_jpeg(QUARTERS), QUARTERS, compression))
    stream = as_jpeg(NOISE, progressive=progressive)
    if not (progressive and compression == 6):  # libtiff reads the old form as baseline only
        Photo(in_tiff(stream, NOISE, compression)).raster()
    for share in (0.3, 0.6, 0.98):
        with pytest.raises(ImageDamaged, match="truncated or corrupt"):
            Photo(in_tiff(stream, NOISE, compression, int(len(stream) * share))).raster()


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
def test_refuses_strips_and_tiles_of_libtiff_that_are_cut(mode: str) -> None:
    for tags in ({}, {278: 32}, {322: 64, 323: 64}):
        whole = by_pillow(NOISE, mode, tiffinfo=tags)
        with Image.open(io.BytesIO(whole)) as image:
            stated = image.tag_v2  # type: ignore[attr-defined]
        places, lengths = (next(stated[tag] for tag in either if tag in stated) for either in ((273, 324), (279, 325)))
        Photo(whole).raster()
        place, length = places[-1], lengths[-1]
        cut = whole[: place + length // 2] + bytes(length - length // 2) + whole[place + length :]
        with pytest.raises(ImageDamaged, match="truncated or corrupt"):
            Photo(cut).raster()


def test_bounds_what_streams_cost() -> None:
    large = as_jpeg(np.zeros((2000, 2000, 3), np.uint8))
    with pytest.raises(ImageDamaged, match="more pixels than the page"):
        Photo(in_tiff(large, QUARTERS, 7)).raster()
    scan = as_jpeg(NOISE, progressive=True)
    start, end = scan.index(b"\xff\xda"), scan.index(b"\xff\xda", scan.index(b"\xff\xda") + 2)
    many = scan[:start] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 60_000 + scan[start:end] + scan[end:]
    with pytest.raises(ImageEncodingUnsupported, match="so many scans"):
        Photo(in_tiff(many, NOISE, 7)).raster()


def test_old_jpeg_whose_tables_lie_apart_is_refused_in_a_sentence() -> None:
    stream = as_jpeg(QUARTERS)
    with pytest.raises(ImageEncodingUnsupported, match="JPEG in the old form, of which parts lie apart"):
        Photo(in_tiff(stream, QUARTERS, 6, t513=0))


def test_reads_jpeg_of_opencv() -> None:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 7, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 16]
    assert_upright(cv2.imencode(".tiff", QUARTERS[..., ::-1], options)[1].tobytes())
