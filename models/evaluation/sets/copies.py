"""Copies of one photo among the pictures of a subject: the same file, reduced, re-encoded, lighter or darker.

Two copies of a photo are one capture. As a mated pair they have a similarity near 1, which says nothing about two
photos of a person. Copies are found by their pixels and not by their embeddings, whose similarities depend on the
model: with the default pack, photos and their thumbnails of 64 pixels had cosines down to 0.3, and different photos of
one person up to 0.94.

The compared description is the normalised gradient of the central square in 32 x 32 pixels. The square makes square
thumbnails comparable with the photos that they were cut from. Measured on LFW, deep-funneled: 300 photos and their
copies (48 to 2,000 pixels, JPEG quality 10 to 90, WebP, sharpened, blurred, greyscale, at 0.4 of the brightness)
correlate by at least 0.944. Of 242,257 pairs of photos of one person, 11 correlate by more than 0.91. The four lowest
of these were looked at, and each is one press photo that was published twice; the next pair, at 0.901, are two photos
taken in succession.
"""

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.errors import SingleClass, VultusError
from models.evaluation.acquire.pictures import Picture
from models.evaluation.sets.user_pictures import PictureSet
from models.imaging import ImageLimits, Photo
from models.photo_folders import listed, read_photo
from models.types import Progress, no_progress

MIN_CORRELATION = 0.93  # see above
_SIDE_PX = 32
_DECODED_PX = 2 * _SIDE_PX  # minimum side of the decoded photo, so that the reduction averages pixels
_WORKERS = 2
_SHOWN = 3  # names in the note


class _Description(NamedTuple):
    """What is compared of a photo.

    Attributes:
        pixels: Number of pixels of the photo.
        gradient: (2 * 31 * 32,) float32 of length 1; zero for a photo of one colour.
    """

    pixels: int
    gradient: NDArray[np.float32]


def without_copies(pictures: PictureSet, limits: ImageLimits, progress: Progress = no_progress) -> PictureSet:
    """Return a set in which several copies of one photo of a subject count as one picture, the largest of them.

    A note names how many were left out. A picture that cannot be read stays in the set.

    Args:
        pictures: Pictures and their subjects.
        limits: Limits of photos; one that exceeds them cannot be read.
        progress: Called after each subject.

    Raises:
        SingleClass: No subject has two different photos, but some have copies of one.
    """
    of_subject: dict[str, list[int]] = defaultdict(list)
    for index, subject in enumerate(pictures.subjects):
        of_subject[subject].append(index)
    compared = [indices for indices in of_subject.values() if len(indices) > 1]
    keep = np.ones(len(pictures.pictures), np.bool_)
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="copies") as workers:
        for done, indices in enumerate(compared, start=1):
            described = list(workers.map(partial(_describe, limits), [pictures.pictures[index] for index in indices]))
            keep[[indices[copy] for copy in _copies(described)]] = False
            progress("looking for copies", done, len(compared))
    if keep.all():
        return pictures
    names = [picture.name for picture, kept in zip(pictures.pictures, keep, strict=True) if not kept]
    note = (
        f"copies of other photos of the same subject, which count as one photo with them: {len(names):,} "
        f"({listed(names, _SHOWN)})"
    )
    distinct = pictures.where(keep)
    if len(set(distinct.subjects)) == len(distinct.subjects):
        raise SingleClass(f"no subject has two different photos; {note}")
    return distinct._replace(notes=(*pictures.notes, note))


def _copies(described: Sequence[_Description | None]) -> list[int]:
    """Return the indices of photos that are copies of a larger one, or of an earlier one of the same size."""
    known = [(index, description) for index, description in enumerate(described) if description is not None]
    known.sort(key=lambda pair: -pair[1].pixels)
    kept = np.empty((len(known), 2 * _SIDE_PX * (_SIDE_PX - 1)), np.float32)
    count, copies = 0, []
    for index, description in known:
        if count and float((kept[:count] @ description.gradient).max()) >= MIN_CORRELATION:
            copies.append(index)
        else:
            kept[count] = description.gradient
            count += 1
    return copies


def _describe(limits: ImageLimits, picture: Picture) -> _Description | None:
    """Return what is compared of a picture; None if it cannot be read."""
    try:
        encoded = picture.source if isinstance(picture.source, bytes) else read_photo(picture.source, limits.max_bytes)
        photo = Photo(encoded, limits)
        pixels = photo.raster(_DECODED_PX / min(photo.width, photo.height)).pixels
    except (VultusError, OSError, ValueError):  # ValueError: the name is not a valid file name
        return None
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    grey = cv2.cvtColor(np.ascontiguousarray(pixels[top : top + side, left : left + side]), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey.astype(np.float32), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
    halves = [_normalised(np.diff(small, axis=axis)) for axis in (0, 1)]
    return _Description(photo.width * photo.height, np.concatenate(halves) / np.float32(np.sqrt(2)))


def _normalised(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values with mean 0 and length 1, flattened; zeros if all values are equal."""
    centred = values.astype(np.float32).ravel() - np.float32(values.mean())
    length = float(np.linalg.norm(centred))
    return (centred / length if length > 1e-3 else np.zeros_like(centred)).astype(np.float32)
