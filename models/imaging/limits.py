"""Limits of images, checked before decoding."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits that are checked before decoding.

    Attributes:
        max_bytes: Maximum size of the encoded image in bytes.
        max_pixels: Maximum number of pixels that the header states.
        min_side_px: Minimum width and height in pixels.
    """

    max_bytes: int = 10 * 2**20
    max_pixels: int = 40_000_000
    min_side_px: int = 16  # the detectors find no face this small
