"""TIFF files: pages, samples, colours."""

from models.imaging.tiff.image import TiffImage

__all__ = ["TiffImage"]
