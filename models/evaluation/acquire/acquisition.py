"""Pictures of evaluation sets to aligned crops: photos through the detector, crops as they are, faces by landmarks."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from models.alignment import TEMPLATES, Template, align
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import NoFace, VultusError
from models.imaging import ImageLimits, Photo
from models.pipeline import FaceCropper
from models.quality import FaceGeometry, geometry_of

_NO_GEOMETRY = FaceGeometry(math.nan, math.nan, math.nan)
_BIN_TEMPLATE = TEMPLATES["arcface-112"]  # what the published sets are aligned to
_LIMITS = ImageLimits(min_side_px=1)  # published crops are what they are


class Crop(NamedTuple):
    """A face ready to be embedded.

    Attributes:
        pixels: (H, W, 3) uint8, RGB, aligned.
        geometry: How it lay in the photo; NaN where there was none.
    """

    pixels: NDArray[np.uint8]
    geometry: FaceGeometry


class Landmarked(NamedTuple):
    """An image file and where the face in it is said to be: (5, 2) float32, pixels."""

    encoded: bytes
    landmarks: NDArray[np.float32]


class Acquisition(Protocol):
    """A way from pictures to crops. Safe for use by several threads at once."""

    @property
    def conditions(self) -> dict[str, Any]:
        """What a crop depends on beside the picture."""

    def crops(self, pictures: Sequence[Any]) -> list[Crop | VultusError]:
        """Make the crop of each picture, in order, or say why there is none."""


class FromPhotos:
    """Photos, end to end as they are served: decode, detect, choose, align."""

    def __init__(self, cropper: FaceCropper, policy: FacePolicy, detector: dict[str, Any]) -> None:
        """Take the steps that serve.

        Args:
            cropper: The steps.
            policy: Which face of a photo is meant; not `all`.
            detector: What the detector is, for `conditions`.
        """
        self._cropper, self._policy, self._detector = cropper, policy, detector

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {"from": "photos", "policy": self._policy, "detector": self._detector}

    def crops(self, pictures: Sequence[bytes]) -> list[Crop | VultusError]:
        """See `Acquisition`; pictures are image files."""
        template = self._cropper.template
        found: list[Crop | VultusError] = []
        for outcome in self._cropper.crop(pictures, self._policy, Deadline()):
            if isinstance(outcome, VultusError):
                found.append(outcome)
            elif not outcome.photo.faces:
                found.append(NoFace("no face was found in the image"))
            else:
                size = (outcome.photo.width, outcome.photo.height)
                found.append(Crop(outcome.crops[0], geometry_of(outcome.photo.faces[0], size, template)))
        return found


class FromCrops:
    """Faces that were aligned to 112 x 112 already, as the `.bin` sets of insightface hold them.

    A recognizer with a narrower template gets the same frame, cut at the sides (see `models.alignment`).
    """

    def __init__(self, template: Template) -> None:
        """Take crops to a template."""
        self._template = template

    @property
    def conditions(self) -> dict[str, Any]:
        """See `Acquisition`."""
        return {"from": "crops"}

    def crops(self, pictures: Sequence[bytes]) -> list[Crop | VultusError]:
        """See `Acquisition`; pictures are image files, the short side is brought to 112 pixels if it is not."""
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
    """Images with the landmarks that a set gives for them, as IJB's evaluation has them."""

    def __init__(self, template: Template) -> None:
        """Align to a template."""
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
    """Bring the short side to 112 pixels if the width is not 112, as the official code does (`resize_short`)."""
    height, width = pixels.shape[:2]
    side = _BIN_TEMPLATE.width
    if width == side:
        return pixels
    short = min(height, width)
    size = (side * width // short, side * height // short)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC).astype(np.uint8, copy=False)
