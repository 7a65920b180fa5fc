"""A picture whose quarters have four colours, in which an upright reading is told from all others."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging import Photo

QUARTERS = np.zeros((48, 80, 3), np.uint8)
QUARTERS[:24, :40], QUARTERS[:24, 40:] = (250, 10, 10), (10, 10, 250)
QUARTERS[24:, :40], QUARTERS[24:, 40:] = (10, 250, 10), (250, 250, 10)
GREY = np.asarray(Image.fromarray(QUARTERS).convert("L"))

# The transform of an upright image that each EXIF orientation undoes.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def stored(orientation: int) -> Image.Image:
    """Return the quarters as a file with this orientation stores them."""
    image = Image.fromarray(QUARTERS)
    return image.transpose(STORED[orientation]) if orientation in STORED else image


def pixels(encoded: bytes) -> NDArray[np.uint8]:
    return Photo(encoded).raster().pixels


def assert_upright(encoded: bytes, atol: int = 25) -> None:
    """Assert that a file shows the four quarters where they belong."""
    photo = Photo(encoded)
    raster = photo.raster().pixels
    assert (photo.width, photo.height) == (80, 48)
    assert raster.shape == (48, 80, 3)
    for y, x in ((10, 20), (10, 60), (36, 20), (36, 60)):
        np.testing.assert_allclose(raster[y, x], QUARTERS[y, x], atol=atol)


def assert_grey(encoded: bytes, atol: int = 3) -> None:
    np.testing.assert_allclose(pixels(encoded), np.repeat(GREY[..., None], 3, axis=2), atol=atol)


def jp2(image: Image.Image, raw: bool = False) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "JPEG2000", no_jp2=raw)
    return stream.getvalue()


def wide_png(samples: NDArray[np.uint16]) -> bytes:
    """Return a PNG of 16 bits: grey, RGB or RGBA."""
    reordered = samples if samples.ndim == 2 else samples[..., [2, 1, 0, 3][: samples.shape[2]]]
    return cv2.imencode(".png", reordered)[1].tobytes()
