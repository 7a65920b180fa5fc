"""The orientation of photos: reading it from EXIF and XMP, and undoing it.

EXIF precedes XMP. A value outside of 1 to 8 is no orientation, as in all other readers.
"""

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from models.imaging.directory import DirectoryDamaged, Tiff

TRANSPOSED = (5, 6, 7, 8)
"""The EXIF orientations that exchange width and height."""

_ORIENTATION_TAG = 0x0112  # EXIF 2.3, section 4.6.4
_EXIF_PREFIX = b"Exif\0\0"
_MAX_ENTRIES = 4096
_MAX_PREFIXES = 4
_MAX_XMP = 2**18  # bytes; a packet in JPEG has at most 2**16
# Repetitions are bounded, so that the time grows with the length of the packet only.
_TIFF_NAMESPACE = re.compile(rb"""xmlns:([\w.-]{1,64})\s{0,8}=\s{0,8}["']http://ns\.adobe\.com/tiff/1\.0/["']""")
_ORIENTATION = re.compile(
    rb"""(?<![\w.-])([\w.-]{1,64}):Orientation\s{0,8}(?:=\s{0,8}["']|>)\s{0,8}([1-8])\s{0,8}["'<]"""
)


def valid_orientation(value: float | None) -> int | None:
    """Return an orientation of 1 to 8, or None."""
    return int(value) if value is not None and value in range(1, 9) else None


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation that an EXIF block states, or None; a corrupt block states nothing.

    Args:
        exif: The block, with or without its prefix `Exif` and two zeros.
    """
    for _ in range(_MAX_PREFIXES):  # some writers repeat it
        exif = exif.removeprefix(_EXIF_PREFIX)
    try:
        file = Tiff.read(exif)
        block = file.directory(file.first, _MAX_ENTRIES, complete=False, only=_ORIENTATION_TAG)
        values = block.numbers(_ORIENTATION_TAG, 1)
    except DirectoryDamaged:
        return None
    return valid_orientation(values[0]) if values else None


def xmp_orientation(xmp: bytes) -> int | None:
    """Return the orientation that an XMP packet states as an attribute or element `tiff:Orientation`, or None."""
    xmp = xmp[:_MAX_XMP].replace(b"\0", b"")  # UTF-16 and UTF-32
    namespace = _TIFF_NAMESPACE.search(xmp)
    prefix = namespace[1] if namespace else b"tiff"
    stated = next((found[2] for found in _ORIENTATION.finditer(xmp) if found[1] == prefix), None)
    return int(stated) if stated else None


def orientation_from(exif: bytes = b"", xmp: bytes = b"") -> int:
    """Return the orientation that EXIF states, else the one that XMP states, else 1."""
    return (exif and exif_orientation(exif)) or (xmp and xmp_orientation(xmp)) or 1


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
