"""Readers of IJB-B and IJB-C in the folder layout of the official evaluations (insightface, AdaFace).

`loose_crop/` holds the images. `meta/` holds the lists, where x is b or c:

* `ijbx_face_tid_mid.txt`: image, template, medium
* `ijbx_name_5pts_score.txt`: image, five landmarks, score of the detector
* `ijbx_template_pair_label.txt` (1:1): template, template, 0 or 1
* `ijbx_1N_gallery_*.csv` and `ijbx_1N_probe_mixed.csv` (1:N): template, subject, further columns
"""

import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.errors import SetUnreadable, SingleClass
from models.evaluation.acquire.pictures import Picture

IjbName = Literal["ijbb", "ijbc"]

_GALLERIES = {"ijbb": ("S1", "S2"), "ijbc": ("G1", "G2")}
_POINTS = 10  # coordinates of the five landmarks


class IjbImages(NamedTuple):
    """The images of a set with their templates and media.

    Attributes:
        pictures: N pictures with landmarks.
        templates, media: (N,) int64, ids of the template and the medium of each picture.
        scores: (N,) float32, score of the detector for each picture.
    """

    pictures: list[Picture]
    templates: NDArray[np.int64]
    media: NDArray[np.int64]
    scores: NDArray[np.float32]


class TemplatePairs(NamedTuple):
    """The pairs of templates that the 1:1 protocol compares.

    Attributes:
        first, second: (P,) int64, template ids.
        mated: (P,) bool, whether both templates of a pair belong to the same subject.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    mated: NDArray[np.bool_]


class TemplateList(NamedTuple):
    """Templates of known subjects, each listed once.

    Attributes:
        templates: (N,) int64, template ids.
        subjects: (N,) int64, subject id of each template.
    """

    templates: NDArray[np.int64]
    subjects: NDArray[np.int64]


def read_images(directory: Path, name: IjbName) -> IjbImages:
    """Read images, templates, media, landmarks and scores.

    Raises:
        SetUnreadable: A file is missing or malformed, or the two files do not list the same images in the same order.
    """
    owners = _lines(directory / "meta" / f"{name}_face_tid_mid.txt", 3)
    faces = _lines(directory / "meta" / f"{name}_name_5pts_score.txt", _POINTS + 2)
    if len(owners) != len(faces) or any(owner[0] != face[0] for owner, face in zip(owners, faces, strict=True)):
        raise SetUnreadable(f"the two image lists of {name} do not name the same images in the same order")
    try:
        numbers = np.array([face[1:] for face in faces], np.float32)
        ids = np.array([owner[1:] for owner in owners], np.int64)
    except ValueError as error:
        raise SetUnreadable(f"the image lists of {name} contain a value that is not a number") from error
    if not np.isfinite(numbers).all():
        raise SetUnreadable(f"the image lists of {name} contain a value that is not a number")
    landmarks = numbers[:, :_POINTS].reshape(-1, 5, 2)
    pictures = [
        Picture(face[0], directory / "loose_crop" / face[0], points)
        for face, points in zip(faces, landmarks, strict=True)
    ]
    return IjbImages(pictures, ids[:, 0], ids[:, 1], numbers[:, _POINTS])


def read_template_pairs(directory: Path, name: IjbName) -> TemplatePairs:
    """Read the pairs of templates of the 1:1 protocol.

    Raises:
        SetUnreadable: The file is missing or malformed.
        SingleClass: The file lists mated pairs only, or non-mated pairs only.
    """
    path = directory / "meta" / f"{name}_template_pair_label.txt"
    numbers = _numbers(path, 3, "lines of two templates and 0 or 1", dtype=np.int32)
    mated = numbers[:, 2] != 0
    if mated.all() or not mated.any():
        raise SingleClass(f"{path.name} does not list both mated and non-mated pairs")
    return TemplatePairs(numbers[:, 0].astype(np.int64), numbers[:, 1].astype(np.int64), mated)


def read_galleries(directory: Path, name: IjbName) -> list[TemplateList]:
    """Read the two galleries of the 1:N protocol.

    Raises:
        SetUnreadable: A file is missing or malformed.
    """
    return [_template_list(directory / "meta" / f"{name}_1N_gallery_{gallery}.csv") for gallery in _GALLERIES[name]]


def read_probes(directory: Path, name: IjbName) -> TemplateList:
    """Read the mixed probes of the 1:N protocol.

    Raises:
        SetUnreadable: The file is missing or malformed.
    """
    return _template_list(directory / "meta" / f"{name}_1N_probe_mixed.csv")


def _template_list(path: Path) -> TemplateList:
    numbers = _numbers(
        path, 2, "CSV of templates and subjects", dtype=np.int64, delimiter=",", skiprows=1, usecols=(0, 1)
    )
    unique = np.unique(numbers, axis=0)  # the files have one line for each image of a template
    return TemplateList(unique[:, 0], unique[:, 1])


def _numbers(path: Path, columns: int, content: str, **options: Any) -> NDArray[Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # numpy only warns about a file without numbers
            numbers = np.loadtxt(path, ndmin=2, **options)
    except (OSError, ValueError, IndexError, UserWarning) as error:
        raise SetUnreadable(f"{path.name} cannot be read as {content}") from error
    if numbers.shape[1] != columns:
        raise SetUnreadable(f"{path.name} cannot be read as {content}")
    return numbers


def _lines(path: Path, fields: int) -> list[list[str]]:
    try:
        with path.open() as file:
            lines = [line.split() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetUnreadable(f"{path.name} cannot be read") from error
    malformed = next((number for number, line in enumerate(lines, start=1) if len(line) != fields), None)
    if malformed is not None or not lines:
        raise SetUnreadable(f"line {malformed or 1} of {path.name} does not have {fields} fields")
    return lines
