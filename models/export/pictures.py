"""Faces to calibrate and prove with: drawn ones, the user's own, and sets with labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.alignment import Template
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import PicturesUnfit, VultusError
from models.evaluation.sets.lfw import Pair, photos, read_pairs
from models.export.labelled import Labelled
from models.imaging import SUFFIXES, Photo
from models.pipeline import FaceCropper
from models.synthetic import synthetic_pictures
from models.types import Progress

SYNTHETIC_FACES = 16
MIN_CALIBRATION_FACES, MAX_CALIBRATION_FACES = 32, 512

Crops = NDArray[np.uint8]
MakeCropper = Callable[[], FaceCropper]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Aligned faces and where they are from.

    Attributes:
        crops: (N, H, W, 3) uint8, RGB.
        about: For the proof.
    """

    crops: Crops
    about: str


def drawn_faces(template: Template) -> Faces:
    """Return drawn pictures: enough to find a wrong conversion, too little to calibrate int8."""
    crops = synthetic_pictures(SYNTHETIC_FACES, template.height, template.width)
    return Faces(crops, f"{SYNTHETIC_FACES} synthetic, seed 0")


def calibration_faces(directory: Path, template: Template, make_cropper: MakeCropper, progress: Progress) -> Faces:
    """Read faces from a directory: pictures of the crop's own size as they are, photos through the detector.

    Args:
        directory: Searched with its subdirectories; at most 512 pictures, spread evenly over the sorted names.
        template: What faces are aligned to.
        make_cropper: Gives what finds faces in photos; called only if there are photos.
        progress: Called after each picture.

    Raises:
        PicturesUnfit: There are too few usable faces.
    """
    if not directory.is_dir():
        raise PicturesUnfit(f"there is no directory {directory.name}")
    found = sorted(path for path in directory.rglob("*") if path.suffix.lower() in SUFFIXES)
    spread = np.linspace(0, len(found) - 1, min(len(found), MAX_CALIBRATION_FACES)).astype(int)
    chosen = [found[index] for index in spread]
    crops: list[Crops] = []
    cropper: FaceCropper | None = None
    for position, path in enumerate(chosen):
        own = _as_crop(path, template)
        if own is None:
            cropper = cropper or make_cropper()
            own = _from_photo(path, cropper, "largest")
        crops.extend([] if own is None else [own])
        progress("reading faces to calibrate with", position + 1, len(chosen))
    if len(crops) < MIN_CALIBRATION_FACES:
        raise PicturesUnfit(
            f"int8 needs at least {MIN_CALIBRATION_FACES} faces to calibrate with; "
            f"{directory.name} gave {len(crops)} of {len(found)} pictures"
        )
    return Faces(np.stack(crops), f"{len(crops)} faces of {directory.name}")


def labelled_faces(lfw: Path, scratch: Path, cropper: FaceCropper, progress: Progress) -> Labelled:
    """Align every face of LFW's View 2, or of a set laid out like it.

    Args:
        lfw: Directory with `pairs.txt` and `images/`.
        scratch: Where to put the crops.
        cropper: Finds the faces; the central one of a photo is meant.
        progress: Called after each photo.

    Raises:
        SetUnreadable, OneClassOnly: There is no such set.
        PicturesUnfit: No photo has a face.
    """
    pairs = read_pairs(lfw / "pairs.txt")
    names = photos(pairs)
    template = cropper.template
    crops = np.lib.format.open_memmap(
        scratch / "labelled.npy", mode="w+", dtype=np.uint8, shape=(len(names), template.height, template.width, 3)
    )
    place: dict[str, int] = {}
    for position, name in enumerate(names):
        crop = _from_photo(lfw / "images" / name, cropper, "central")
        if crop is not None:
            place[name] = position
            crops[position] = crop
        progress("reading the labelled set", position + 1, len(names))
    if not place:
        raise PicturesUnfit(f"no face was found in the photos of {lfw.name}")
    crops.flush()
    subjects = np.unique([name.partition("/")[0] for name in names], return_inverse=True)[1].astype(np.int64)
    subjects[[position for position, name in enumerate(names) if name not in place]] = -1
    about = f"{lfw.name}: {len(pairs):,} pairs; threshold over all pairs of {len(place):,} faces of different subjects"
    return Labelled(about, scratch / "labelled.npy", *_indices(pairs, place), subjects)


def _indices(
    pairs: Sequence[Pair], place: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    first = np.array([place.get(pair.first, -1) for pair in pairs])
    second = np.array([place.get(pair.second, -1) for pair in pairs])
    return first, second, np.array([pair.mated for pair in pairs])


def _as_crop(path: Path, template: Template) -> Crops | None:
    try:
        photo = Photo(path.read_bytes())
        if (photo.height, photo.width) != (template.height, template.width):
            return None
        return photo.raster().pixels
    except (VultusError, OSError):
        return None


def _from_photo(path: Path, cropper: FaceCropper, policy: FacePolicy) -> Crops | None:
    try:
        (outcome,) = cropper.crop([path.read_bytes()], policy, Deadline())
    except OSError:
        return None
    return None if isinstance(outcome, VultusError) else outcome.crops[0]
