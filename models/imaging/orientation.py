"""The orientation of photos: reading it from the metadata, and undoing it."""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.imaging.png import png_chunk

TRANSPOSED = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""

_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4


def orientation_of(image: Image.Image, encoded: bytes) -> int:
    """Return the EXIF orientation (1 to 8) that remains to be undone after Pillow has decoded the image."""
    if image.format == "TIFF":
        return 1  # Pillow undoes the orientation while decoding
    if image.format == "HEIF" and any(box in encoded.partition(b"mdat")[0] for box in (b"irot", b"imir")):
        return 1  # libheif undoes the rotation of the container, which overrides EXIF (ISO/IEC 23008-12)
    try:
        if image.format == "PNG":  # Pillow would decode all pixels to find a chunk after them
            exif = Image.Exif()
            exif.load(png_chunk(encoded, b"eXIf"))
        else:
            exif = image.getexif()
        value = image.info.get("original_orientation") or exif.get(_ORIENTATION_TAG, 1)
    except MemoryError:
        raise
    except Exception:  # an image with a corrupt EXIF block is still usable
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def turn(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (EXIF 2.3, table 6 of section 4.6.4)."""
    match orientation:
        case 2:
            turned = cv2.flip(pixels, 1)
        case 3:
            turned = cv2.rotate(pixels, cv2.ROTATE_180)
        case 4:
            turned = cv2.flip(pixels, 0)
        case 5:
            turned = cv2.transpose(pixels)
        case 6:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_CLOCKWISE)
        case 7:
            turned = cv2.rotate(cv2.transpose(pixels), cv2.ROTATE_180)
        case 8:
            turned = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
        case _:
            return np.ascontiguousarray(pixels)
    return turned.astype(np.uint8, copy=False)
