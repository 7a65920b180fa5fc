"""What decoding a TIFF takes: a small file states 40 million pixels of 8 bytes each."""

import tracemalloc

import numpy as np
import pytest

from models.imaging import Photo
from models.imaging.tiff import samples
from tests.models.imaging.pictures import GREY, QUARTERS, pixels
from tests.tiffs import SHORT, TiffPage, tiff

SLOPE = (np.arange(48 * 80 * 3, dtype=np.uint16) * 5).reshape(48, 80, 3)


@pytest.mark.parametrize("shape", [(16, 200_000), (1600, 2000)])  # few rows are a band of many bytes
def test_numbers_exist_for_a_band_of_rows_at_a_time(shape: tuple[int, int]) -> None:
    """The numbers of all rows, their copies and float copies were up to 18 times as large as the pixels."""
    encoded = tiff(TiffPage(np.zeros((*shape, 4), np.float16), 2, deflate=True))
    photo = Photo(encoded)
    tracemalloc.start()
    try:
        photo.raster()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(encoded) < 2**16
    assert peak < 1.1 * (3 + 8) * shape[0] * shape[1] + 2**23  # pixels, samples from which white is estimated, a band


@pytest.mark.parametrize(
    "page",
    [
        TiffPage(SLOPE, 2),
        TiffPage(SLOPE, 2, planes=True, deflate=True),
        TiffPage(SLOPE[:, :79, :1] % 4096, packed=12),
        TiffPage(np.dstack([SLOPE, SLOPE[..., 1]]), 2, tags={338: (SHORT, [1])}),
        TiffPage(np.dstack([SLOPE, SLOPE[..., 1]]), 5),
        TiffPage(QUARTERS.astype(np.uint16) << 8, 8),
        TiffPage(QUARTERS.astype(np.int16) - 128, 2, tags={340: (8, [-128] * 3), 341: (8, [127] * 3)}),
        TiffPage(65_535 - GREY[..., None].astype(np.uint16) * 257, 0),
    ],
)
def test_bands_are_the_rows_of_the_page(page: TiffPage, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = tiff(page)
    whole = pixels(encoded)
    for size in (1, 2000, 7000):
        monkeypatch.setattr(samples, "_BAND_BYTES", size)
        np.testing.assert_array_equal(pixels(encoded), whole)


def test_white_is_estimated_from_rows_of_all_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    page = tiff(TiffPage(GREY[..., None].astype(np.uint16) * 8))
    whole = pixels(page)
    monkeypatch.setattr(samples, "_BAND_BYTES", 400)
    monkeypatch.setattr("models.imaging.tiff.colours.SAMPLED", 800)  # every fourth row
    np.testing.assert_array_equal(pixels(page), whole)
