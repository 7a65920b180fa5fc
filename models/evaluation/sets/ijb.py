"""IJB-B and IJB-C in the folder layout of the official evaluations (insightface, AdaFace).

`loose_crop/` holds the images. In `meta/`, with x for b or c: `ijbx_face_tid_mid.txt` (image, template, medium),
`ijbx_name_5pts_score.txt` (image, five landmarks, the detector's score), `ijbx_template_pair_label.txt` (template,
template, 0 or 1), and for 1:N `ijbx_1N_gallery_*.csv` and `ijbx_1N_probe_mixed.csv` (template, subject, ...).
"""

import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import OneClassOnly, SetUnreadable
from models.evaluation.acquire.pictures import Picture

IjbName = Literal["ijbb", "ijbc"]

_GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_POINTS = 10


class IjbImages(NamedTuple):
    """The images and what they belong to.

    Attributes:
        pictures: N, with landmarks.
        templates, media: (N,) int64 ids.
        scores: (N,) float32, the detector's confidence.
    """

    pictures: list[Picture]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    scores: NDArray[np.float32]


class TemplatePairs(NamedTuple):
    """Which templates are compared.

    Attributes:
        first, second: (P,) int64 template ids.
        mated: (P,) whether a pair is of one subject.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mated: NDArray[np.bool_]


class TemplateList(NamedTuple):
    """Templates of known subjects, (N,) int64 ids of both; a template may be named by several of its images."""

    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]


def read_images(directory: Path, name: IjbName) -> IjbImages:
    """Read images, templates, media, landmarks and scores.

    Raises:
        SetUnreadable: A file is absent, not in its format, or the two do not list the same images.
    """
    owners = _lines(directory / "meta" / f"{name}_face_tid_mid.txt", 3)
    faces = _lines(directory / "meta" / f"{name}_name_5pts_score.txt", _POINTS + 2)
    if len(owners) != len(faces) or any(one[0] != other[0] for one, other in zip(owners, faces, strict=True)):
        raise SetUnreadable(f"the two lists of images of {name} do not name the same images in the same order")
    try:
        numbers = np.array([face[1:] for face in faces], np.float32)
        ids = np.array([owner[1:] for owner in owners], np.int64)
    except ValueError as error:
        raise SetUnreadable(f"the lists of images of {name} hold something that is no number") from error
    if not np.isfinite(numbers).all():
        raise SetUnreadable(f"the lists of images of {name} hold something that is no number")
    landmarks = numbers[:, :_POINTS].reshape(-1, 5, 2)
    pictures = [
        Picture(face[0], directory / "loose_crop" / face[0], points)
        for face, points in zip(faces, landmarks, strict=True)
    ]
    return IjbImages(pictures, ids[:, 0], ids[:, 1], numbers[:, _POINTS])


def read_template_pairs(directory: Path, name: IjbName) -> TemplatePairs:
    """Read the comparisons of 1:1.

    Raises:
        SetUnreadable: The file is absent or not in its format.
        OneClassOnly: There are mated pairs only, or non-mated pairs only.
    """
    path = directory / "meta" / f"{name}_template_pair_label.txt"
    numbers = _numbers(path, 3, "lines of two templates and 0 or 1", dtype=np.int32)
    mated = numbers[:, 2] != 0
    if mated.all() or not mated.any():
        raise OneClassOnly(f"{path.name} lists no mated or no non-mated pairs")
    return TemplatePairs(numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.int64), mated)


def read_galleries(directory: Path, name: IjbName) -> list[TemplateList]:
    """Read the two galleries of 1:N.

    Raises:
        SetUnreadable: A file is absent or not in its format.
    """
    return [_template_list(directory / "meta" / f"{name}_1N_gallery_{one}.csv") for one in _GALLERIES[name]]


def read_probes(directory: Path, name: IjbName) -> TemplateList:
    """Read the mixed probes of 1:N.

    Raises:
        SetUnreadable: The file is absent or not in its format.
    """
    return _template_list(directory / "meta" / f"{name}_1N_probe_mixed.csv")


def _template_list(path: Path) -> TemplateList:
    numbers = _numbers(
        path, 2, "CSV of templates and subjects", dtype=np.int64, delimiter=",", skiprows=1, usecols=(0, 1)
    )
    unique = np.unique(numbers, axis=0)
    return TemplateList(unique[:, 0], unique[:, 1])


def _numbers(path: Path, columns: int, what: str, **options: Any) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # of a file without numbers
            numbers = np.loadtxt(path, ndmin=2, **options)
    except (OSError, ValueError, IndexError, UserWarning) as error:
        raise SetUnreadable(f"{path.name} cannot be read as {what}") from error
    if numbers.shape[1] != columns:
        raise SetUnreadable(f"{path.name} cannot be read as {what}")
    return numbers


def _lines(path: Path, words: int) -> list[list[str]]:
    try:
        with path.open() as file:
            lines = [line.split() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetUnreadable(f"{path.name} cannot be read") from error
    wrong = next((number for number, line in enumerate(lines, start=1) if len(line) != words), None)
    if wrong is not None or not lines:
        raise SetUnreadable(f"line {wrong or 1} of {path.name} does not have {words} words")
    return lines
