"""Faces for calibration and proof: synthetic pictures, the user's images, and labelled sets."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.alignment import AlignmentTemplate
from models.deadline import Deadline
from models.detection.policy import FacePolicy
from models.errors import ImagesUnfit, ImageTooManyBytes, VultusError
from models.evaluation.sets.lfw import Pair, photos, read_pairs
from models.export.labelled import Labelled
from models.imaging import ImageLimits, Photo
from models.photo_folders import find_photos, read_photo
from models.pipeline import FaceCropper
from models.synthetic import synthetic_pictures
from models.types import Progress

SYNTHETIC_FACES = 16
MIN_CALIBRATION_FACES, MAX_CALIBRATION_FACES = 32, 512

Crops = NDArray[np.uint8]
MakeCropper = Callable[[], FaceCropper]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Aligned faces and their origin.

    Attributes:
        crops: (N, H, W, 3) uint8, RGB.
        about: Number and origin of the faces, for the proof.
        passed_over: What was passed over in the directory of the faces; empty if nothing was.
    """

    crops: Crops
    about: str
    passed_over: str = ""


def drawn_faces(template: AlignmentTemplate) -> Faces:
    """Return synthetic pictures of the template's size.

    They reveal a wrong conversion, but are not faces and cannot calibrate int8.
    """
    crops = synthetic_pictures(SYNTHETIC_FACES, template.height, template.width)
    return Faces(crops, f"{SYNTHETIC_FACES} synthetic, seed 0")


def calibration_faces(
    directory: Path, template: AlignmentTemplate, make_cropper: MakeCropper, progress: Progress
) -> Faces:
    """Read faces from a directory.

    An image of the template's size is taken as an aligned face. In any other image, the largest face is detected and
    aligned. Images without a usable face are skipped.

    Args:
        directory: Directory that is searched recursively. At most 512 images are read, evenly spaced over the sorted
            paths.
        template: Alignment template of the network.
        make_cropper: Returns the cropper for photos; called only if an image is not an aligned face.
        progress: Called after each image.

    Raises:
        ImagesUnfit: The directory is missing, cannot be read, or has fewer than 32 usable faces.
    """
    if not directory.is_dir():
        raise ImagesUnfit(f"the directory {directory.name} does not exist")
    try:
        found, passed_over = find_photos(directory)
    except OSError as error:
        raise ImagesUnfit(f"the directory {directory.name} cannot be read: {error.strerror}") from error
    spread = np.linspace(0, len(found) - 1, min(len(found), MAX_CALIBRATION_FACES)).astype(int)
    chosen = [found[index] for index in spread]
    crops: list[Crops] = []
    cropper: FaceCropper | None = None
    with ExitStack() as opened:
        for position, path in enumerate(chosen):
            crop = _as_crop(path, template)
            if crop is None:
                cropper = cropper or opened.enter_context(make_cropper())
                crop = _from_photo(path, cropper, "largest")
            crops.extend([] if crop is None else [crop])
            progress("reading calibration faces", position + 1, len(chosen))
    if len(crops) < MIN_CALIBRATION_FACES:
        raise ImagesUnfit(
            f"int8 calibration needs at least {MIN_CALIBRATION_FACES} faces; "
            f"{directory.name} has {len(crops)} usable faces in {len(found)} images"
            + (f" ({passed_over})" if passed_over.counts else "")
        )
    return Faces(np.stack(crops), f"{len(crops)} faces of {directory.name}", str(passed_over))


def labelled_faces(lfw: Path, scratch: Path, cropper: FaceCropper, progress: Progress) -> Labelled:
    """Align every face of LFW's View 2, or of a set in the same layout.

    Args:
        lfw: Directory with `pairs.txt` and `images/`.
        scratch: Directory in which the crops are stored.
        cropper: Finds and aligns the central face of each photo.
        progress: Called after each photo.

    Raises:
        SetUnreadable: `pairs.txt` is missing or malformed.
        SingleClass: `pairs.txt` lists no mated or no non-mated pairs.
        ImagesUnfit: No face was found in any photo.
    """
    pairs = read_pairs(lfw / "pairs.txt")
    names = photos(pairs)
    template = cropper.template
    crops = np.lib.format.open_memmap(
        scratch / "labelled.npy", mode="w+", dtype=np.uint8, shape=(len(names), template.height, template.width, 3)
    )
    positions: dict[str, int] = {}
    for position, name in enumerate(names):
        crop = _from_photo(lfw / "images" / name, cropper, "central")
        if crop is not None:
            positions[name] = position
            crops[position] = crop
        progress("reading the labelled set", position + 1, len(names))
    if not positions:
        raise ImagesUnfit(f"no face was found in the photos of {lfw.name}")
    crops.flush()
    subjects = np.unique([name.partition("/")[0] for name in names], return_inverse=True)[1].astype(np.int64)
    subjects[[position for position, name in enumerate(names) if name not in positions]] = -1
    about = f"{lfw.name}: {len(pairs):,} pairs; threshold over all non-mated pairs of {len(positions):,} faces"
    return Labelled(about, scratch / "labelled.npy", *_indices(pairs, positions), subjects)


def _indices(
    pairs: Sequence[Pair], positions: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    first = np.array([positions.get(pair.first, -1) for pair in pairs])
    second = np.array([positions.get(pair.second, -1) for pair in pairs])
    return first, second, np.array([pair.mated for pair in pairs])


def _as_crop(path: Path, template: AlignmentTemplate) -> Crops | None:
    """Return an image of the template's size as an aligned face; None for other sizes and unreadable files."""
    try:
        photo = Photo(read_photo(path, ImageLimits().max_bytes))
        if (photo.height, photo.width) != (template.height, template.width):
            return None
        return photo.raster().pixels
    except (VultusError, OSError, ValueError):  # ValueError: a pipe or a device
        return None


def _from_photo(path: Path, cropper: FaceCropper, policy: FacePolicy) -> Crops | None:
    """Return the aligned face of a photo; None if the photo is unreadable or has no face."""
    try:
        (outcome,) = cropper.crop([read_photo(path, cropper.limits.max_bytes)], policy, Deadline())
    except (ImageTooManyBytes, OSError, ValueError):  # ValueError: a pipe or a device
        return None
    return None if isinstance(outcome, VultusError) else outcome.crops[0]
