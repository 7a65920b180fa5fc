"""JPEG 2000 files: the codestream, the boxes around it, pixels."""

from models.imaging.jpeg2000.codestream import SIGNATURE
from models.imaging.jpeg2000.image import BOX_SIGNATURE, Jpeg2000Image

SIGNATURES = (SIGNATURE, BOX_SIGNATURE)

__all__ = ["SIGNATURES", "Jpeg2000Image"]
