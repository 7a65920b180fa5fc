"""Limits of images, checked before decoding."""

from dataclasses import dataclass

from models.errors import ImageEmpty, ImageTooManyBytes, ImageTooManyPixels, ImageTooSmall


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

    def check_bytes(self, encoded: bytes) -> None:
        """Raise an error if the encoded image has no bytes or too many.

        Raises:
            ImageEmpty: The image has no bytes.
            ImageTooManyBytes: The image exceeds `max_bytes`.
        """
        if not encoded:
            raise ImageEmpty("the image is empty: no bytes were sent")
        if len(encoded) > self.max_bytes:
            raise ImageTooManyBytes(f"the image has {len(encoded)} bytes; at most {self.max_bytes} are accepted")

    def check_size(self, width: int, height: int) -> None:
        """Raise an error if an image of this size has too many pixels or a side that is too short.

        Raises:
            ImageTooManyPixels: The image has more than `max_pixels`.
            ImageTooSmall: A side is shorter than `min_side_px`.
        """
        if width * height > self.max_pixels:
            raise ImageTooManyPixels(f"the image has {width} x {height} pixels; at most {self.max_pixels} are accepted")
        if min(width, height) < self.min_side_px:
            raise ImageTooSmall(
                f"the image has {width} x {height} pixels; each side must have at least {self.min_side_px} pixels"
            )
