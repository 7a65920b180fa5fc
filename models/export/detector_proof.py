"""Prove a converted detector: compare its outputs on every engine of this machine with those of the published graph.

The pictures have several sizes, because the converted graph takes images of any size. The synthetic ones show no face;
the demonstration photos, if they are fetched, do. The float32 graph is also measured in bfloat16 arithmetic where an
engine supports it. There is no limit for bfloat16, which shifts the landmark offsets of cells without a face by
up to a quarter of a stride; `vultus tune` compares faces instead.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.artefact.parity import MAX_DETECTOR_DIFFERENCE
from models.detection.detector import DETECTOR_OUTPUTS
from models.errors import ImageError, VultusError
from models.export.proof import engine_version
from models.graph import UnsupportedGraph
from models.imaging import ImageLimits, Photo
from models.photo_folders import find_photos, read_photo
from models.runtime import RuntimeOptions, cpu_options, open_session
from models.synthetic import synthetic_pictures

Outputs = dict[str, NDArray[np.float32]]

# Height and width of the synthetic pictures; some published graphs, as those of SCRFD, run in the first size only.
_SIZES = ((640, 640), (640, 640), (256, 384), (384, 256))
_MULTIPLE, _PHOTO_SIDE_PX = 32, 384  # the largest stride of detectors; longer side of a photo


class ProofPicture(NamedTuple):
    """A picture of the proof.

    Attributes:
        name: Origin and size, for the proof.
        pixels: (1, H, W, 3) uint8, RGB; sides are multiples of 32.
    """

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DetectorRow:
    """The measurement of one precision on one engine.

    Attributes:
        precision: bf16 for the float32 graph in bfloat16 arithmetic.
        engine, version: Engine that ran the graph, and its version.
        worst: Largest difference of each output over all pictures: scores in [0, 1], box and landmark offsets in
            strides. None if the engine failed.
        why: Reasons why the measurement failed; empty if it passed.
    """

    precision: Literal["fp32", "bf16"]
    engine: str
    version: str
    worst: dict[str, float] | None
    why: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """Return the record for `parity.json`."""
        return {**asdict(self), "why": list(self.why), "passed": not self.why}


@dataclass(frozen=True, slots=True)
class DetectorProof:
    """The rows of the proof and the reference that they are compared with.

    Attributes:
        reference: Published file, its SHA-256 and the runtime that ran it.
        pictures: Names of the pictures.
        rows: Measurements.
    """

    reference: Mapping[str, str]
    pictures: tuple[str, ...]
    rows: tuple[DetectorRow, ...]

    @property
    def failures(self) -> list[str]:
        """Reasons why the detector must not be served; empty if all rows passed."""
        return [f"{row.precision} on {row.engine}: {', '.join(row.why)}" for row in self.rows if row.why]

    def record(self) -> dict[str, Any]:
        """Return the content of `parity.json`."""
        return {
            "reference": dict(self.reference),
            "pictures": list(self.pictures),
            "limits": {"fp32": MAX_DETECTOR_DIFFERENCE},
            "measured": [row.record() for row in self.rows],
            "passed": not self.failures,
        }


def proof_pictures(photos: Path | None) -> list[ProofPicture]:
    """Return synthetic pictures and the photos of a directory.

    Args:
        photos: Directory of photos with faces; None if there is none.
    """
    pictures = [
        ProofPicture(f"synthetic, seed {seed}, {width} x {height}", synthetic_pictures(1, height, width, seed))
        for seed, (height, width) in enumerate(_SIZES)
    ]
    for path in find_photos(photos).paths if photos is not None else ():
        try:
            pixels = _on_canvas(Photo(read_photo(path, ImageLimits().max_bytes)).raster().pixels)
        except (ImageError, OSError, ValueError):  # ValueError: a pipe or a device
            continue
        pictures.append(ProofPicture(f"{path.name}, {pixels.shape[2]} x {pixels.shape[1]}", pixels))
    return pictures


def prove_detector(
    graph: Path,
    about: Mapping[str, str],
    published: Callable[[NDArray[np.uint8]], Outputs],
    pictures: Sequence[ProofPicture],
) -> DetectorProof:
    """Measure a converted detector on every engine of this machine.

    Args:
        graph: The converted ONNX file, in the contract of `models.graph`.
        about: File, SHA-256 and runtime of the reference, for the proof.
        published: Returns the outputs of the published graph for (1, H, W, 3) uint8, RGB.
        pictures: Pictures to compare on; those in whose size the published graph does not run are left out.

    Raises:
        UnsupportedGraph: The published graph does not run in the size of the first picture.
    """
    comparable, references = [], []
    for picture in pictures:
        try:
            references.append(published(picture.pixels))
        except UnsupportedGraph:
            if not references:
                raise
            continue
        comparable.append(picture)
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")
    rows = [
        _measure(graph, precision, options, references, comparable)
        for precision in precisions
        for options in cpu_options(precision)
    ]
    return DetectorProof(about, tuple(picture.name for picture in comparable), tuple(rows))


def _measure(
    graph: Path,
    precision: Literal["fp32", "bf16"],
    options: RuntimeOptions,
    references: Sequence[Outputs],
    pictures: Sequence[ProofPicture],
) -> DetectorRow:
    version = engine_version(options.engine)
    worst, why = dict.fromkeys(DETECTOR_OUTPUTS, 0.0), list[str]()
    limit = MAX_DETECTOR_DIFFERENCE if precision == "fp32" else np.finfo(np.float32).max
    try:
        session = open_session(
            graph, DETECTOR_OUTPUTS, tuple(picture.pixels.shape[1:3] for picture in pictures), options
        )
        for picture, reference in zip(pictures, references, strict=True):
            outputs = dict(zip(DETECTOR_OUTPUTS, session.run(picture.pixels), strict=True))
            for name in DETECTOR_OUTPUTS:
                difference = float(np.abs(outputs[name] - reference[name]).max())
                if not difference <= limit:  # written so that NaN fails
                    why.append(f"{name} differ by {difference:.2g} on {picture.name}")
                worst[name] = max(worst[name], difference)
    except VultusError as error:
        return DetectorRow(precision, options.engine, version, None, (str(error),))
    return DetectorRow(precision, options.engine, version, worst, tuple(why))


def _on_canvas(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scale a photo so that its longer side is at most 384 pixels and both sides are multiples of 32."""
    factor = min(1.0, _PHOTO_SIDE_PX / max(pixels.shape[:2]))
    height, width = (max(_MULTIPLE, round(side * factor / _MULTIPLE) * _MULTIPLE) for side in pixels.shape[:2])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)[None]
