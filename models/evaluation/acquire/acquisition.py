"""Acquisition: the step from a picture of an evaluation set to an aligned crop.

A photo passes through the detector, a published crop is used without detection, and an image with published landmarks
is aligned to them.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import TEMPLATES, AlignmentTemplate, align
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import NoFace, VultusError
from models.imaging import ImageLimits, Photo
from models.pipeline import FaceCropper
from models.quality import FaceGeometry, geometry_of

_NO_GEOMETRY = FaceGeometry(math.nan, math.nan, math.nan)
_BIN_TEMPLATE = TEMPLATES["arcface-112"]  # alignment template of the published sets
_LIMITS = ImageLimits(min_side_px=1)  # published crops are accepted at any size


class Crop(NamedTuple):
    """An aligned face, the input of the recognizer.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, aligned.
        geometry: Geometry of the face in its photo; NaN if no detector ran.
    """

    pixels: NDArray[np.uint8]
    geometry: FaceGeometry


class Landmarked(NamedTuple):
    """An image file and the published landmarks of its face.

    Attributes:
        encoded: Image file.
        landmarks: (5, 2) float32, pixels; left eye, right eye, nose, left and right mouth corner.
    """

    encoded: bytes
    landmarks: NDArray[np.float32]


class Acquisition(Protocol):
    """A method that makes crops from pictures. Thread-safe."""

    @property
    def max_bytes(self) -> int:
        """Maximum size of an image file in bytes."""

    @property
    def conditions(self) -> dict[str, Any]:
        """Everything that a crop depends on, except the picture."""

    def crops(self, pictures: Sequence[Any]) -> list[Crop | VultusError]:
        """Return the crop of each picture, in order, or the error that prevented it."""


class FromPhotos:
    """Crops from photos, by the serving pipeline: decode, detect, select the face, align."""

    def __init__(self, cropper: FaceCropper, policy: FacePolicy, detector: dict[str, Any]) -> None:
        """Initialise the acquisition.

        Args:
            cropper: Pipeline steps from an image file to aligned crops.
            policy: Rule that selects one face of a photo; not `all`.
            detector: Description of the detector, for `conditions`.
        """
        self._cropper, self._policy, self._detector = cropper, policy, detector

    @property
    def max_bytes(self) -> int:
        """See `Acquisition`."""
        return self._cropper.limits.max_bytes

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {"from": "photos", "policy": self._policy, "detector": self._detector}

    def crops(self, pictures: Sequence[bytes]) -> list[Crop | VultusError]:
        """See `Acquisition`. The pictures are image files."""
        template = self._cropper.template
        crops: list[Crop | VultusError] = []
        for outcome in self._cropper.crop(pictures, self._policy, Deadline()):
            if isinstance(outcome, VultusError):
                crops.append(outcome)
            elif not outcome.photo.faces:
                crops.append(NoFace("no face was found in the image"))
            else:
                size = (outcome.photo.width, outcome.photo.height)
                crops.append(Crop(outcome.crops[0], geometry_of(outcome.photo.faces[0], size, template)))
        return crops


class FromCrops:
    """Crops from faces that are already aligned to 112 x 112 pixels, as in the `.bin` sets of insightface.

    For a narrower alignment template, the crop is cut at both sides (see `models.alignment`).
    """

    max_bytes = _LIMITS.max_bytes

    def __init__(self, template: AlignmentTemplate) -> None:
        """Initialise the acquisition for an alignment template."""
        self._template = template

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {"from": "crops"}

    def crops(self, pictures: Sequence[bytes]) -> list[Crop | VultusError]:
        """See `Acquisition`.

        The pictures are image files. An image whose width is not 112 pixels is scaled so that its short side is 112.
        """
        return [self._crop(encoded) for encoded in pictures]

    def _crop(self, encoded: bytes) -> Crop | VultusError:
        try:
            pixels = _to_112(Photo(encoded, _LIMITS).raster().pixels)
        except VultusError as error:
            return error
        height, width = pixels.shape[:2]
        top = (height - self._template.height) // 2
        left = (width - self._template.width) // 2
        cut = pixels[top : top + self._template.height, left : left + self._template.width]
        return Crop(np.ascontiguousarray(cut), _NO_GEOMETRY)


class FromLandmarks:
    """Crops from images with published landmarks, as in the evaluation of IJB."""

    max_bytes = _LIMITS.max_bytes

    def __init__(self, template: AlignmentTemplate) -> None:
        """Initialise the acquisition for an alignment template."""
        self._template = template

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {"from": "landmarks"}

    def crops(self, pictures: Sequence[Landmarked]) -> list[Crop | VultusError]:
        """See `Acquisition`."""
        return [self._crop(picture) for picture in pictures]

    def _crop(self, picture: Landmarked) -> Crop | VultusError:
        try:
            pixels = Photo(picture.encoded, _LIMITS).raster().pixels
            return Crop(align(pixels, picture.landmarks[None], self._template)[0], _NO_GEOMETRY)
        except VultusError as error:
            return error


def _to_112(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale the short side to 112 pixels if the width is not 112, as `resize_short` of the official code does."""
    height, width = pixels.shape[:2]
    side = _BIN_TEMPLATE.width
    if width == side:
        return pixels
    short = min(height, width)
    size = (side * width // short, side * height // short)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
