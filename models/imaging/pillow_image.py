"""Photos that Pillow decodes: all formats but TIFF, PNG and JPEG 2000, which have modules of their own."""

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from models.errors import ImageDamaged
from models.imaging.boxes import primary_item_properties
from models.imaging.orientation import orientation_from, valid_orientation
from models.imaging.pixels import decoded, to_rgb


class PillowImage:
    """An image whose header Pillow has read."""

    def __init__(self, encoded: bytes, image: Image.Image) -> None:
        """Read the orientation.

        Args:
            encoded: Bytes of the file.
            image: The image as Pillow opened it.
        """
        self._encoded = encoded
        self._image = image
        self.format = str(image.format)
        self.size = image.size
        self.plain_jpeg = self.format in ("JPEG", "MPO") and image.mode in ("L", "RGB")
        self.orientation = _orientation(image, encoded)

    def decode(self) -> NDArray[np.uint8]:
        """Decode to (H, W, 3) uint8, RGB, as stored.

        Raises:
            ImageDamaged: The image is truncated or corrupt.
        """
        return decoded(self.format, self._decode)

    def _decode(self) -> NDArray[np.uint8]:
        if self.format in ("JPEG", "MPO") and self._image.mode == "CMYK":
            # Pillow decodes a truncated JPEG to the end, in grey
            simplejpeg.decode_jpeg(self._encoded, "CMYK", min_width=1, min_height=1)
        self._image.load()
        if self._image.size != self.size:
            raise ImageDamaged(f"the {self.format} image is corrupt: header and pixels state two sizes")
        if self.format == "BMP" and self._image.mode == "RGBA" and not self._image.getchannel("A").getbbox():
            return np.asarray(self._image.convert("RGB"))  # many programs write 0 and mean that there is no opacity
        return to_rgb(self._image)


def _orientation(image: Image.Image, encoded: bytes) -> int:
    """Return the orientation that remains to be undone after Pillow has decoded the image."""
    exif, xmp = _bytes(image.info.get("exif")), _bytes(image.info.get("xmp"))
    if (
        image.format == "AVIF"
    ):  # Pillow replaces the orientation of EXIF by the one of the container, which rules (MIAF)
        return orientation_from(exif)
    if image.format == "HEIF":
        if primary_item_properties(encoded) & {b"irot", b"imir"}:
            return 1  # libheif undoes the rotation of the container, which overrides EXIF (ISO/IEC 23008-12)
        return valid_orientation(image.info.get("original_orientation")) or orientation_from(exif, xmp)
    return orientation_from(exif, xmp)


def _bytes(block: object) -> bytes:
    return block if isinstance(block, bytes) else block.encode() if isinstance(block, str) else b""
