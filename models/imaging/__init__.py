"""Decoding of photos to upright RGB pixels."""

from models.imaging.formats import FORMATS, load_decoders
from models.imaging.limits import ImageLimits
from models.imaging.photo import Photo, Raster

__all__ = ["FORMATS", "ImageLimits", "Photo", "Raster", "load_decoders"]
