"""The output encodings of the supported families of anchor detectors.

YuNet: W. Wu, H. Peng, S. Yu, "YuNet: A Tiny Millisecond-level Face Detector", MIR 2023. The weights of the OpenCV zoo
are licensed under MIT.

SCRFD: J. Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022, arXiv 2105.04714.
The published weights are licensed for non-commercial use only.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class DetectorHead:
    """The output encoding and the score thresholds of a detector family.

    Attributes:
        family: Name of the family, part of the embedding contract because alignment depends on the landmarks.
        anchors_per_cell: Number of anchors at each position of a stride's grid.
        min_score: Minimum score of a face.
        sure_score: Score below which the orientation that a face tells is doubted.
        turn_score: Score of the best face below which other orientations of the photo are tried. Some photos that are
            upside down exceed `sure_score`; a wrong doubt costs three looks at a reduced copy, and changes no face.
        decode_boxes: (raw boxes [K, 4], anchors [K, 3]) -> [K, 4] corners in pixels.
        decode_landmarks: (raw landmarks [K, 10], anchors [K, 3]) -> [K, 5, 2] in pixels.
    """

    family: str
    anchors_per_cell: int
    min_score: float
    sure_score: float
    turn_score: float
    decode_boxes: Callable[[Floats, Floats], Floats]
    decode_landmarks: Callable[[Floats, Floats], Floats]

    def anchors(self, height: int, width: int) -> Floats:
        """Return the anchors of a canvas in the order of the outputs.

        Args:
            height: Height of the canvas in pixels.
            width: Width of the canvas in pixels.

        Returns:
            (A, 3) float32: x and y of the top left corner of the cell in pixels, stride.
        """
        levels = []
        for stride in STRIDES:
            rows, columns = height // stride, width // stride
            y, x = np.mgrid[:rows, :columns] * stride
            level = np.stack([x, y, np.full_like(x, stride)], axis=-1).reshape(-1, 3)
            levels.append(np.repeat(level, self.anchors_per_cell, axis=0))
        return np.concatenate(levels).astype(np.float32)


def _centre_and_log_size(raw: Floats, anchors: Floats) -> Floats:
    stride = anchors[:, 2:]
    centre, half = anchors[:, :2] + raw[:, :2] * stride, np.exp(raw[:, 2:]) * stride / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def _distances_to_sides(raw: Floats, anchors: Floats) -> Floats:
    distances = raw * anchors[:, 2:]
    return np.concatenate([anchors[:, :2] - distances[:, :2], anchors[:, :2] + distances[:, 2:]], axis=1)


def _offsets(raw: Floats, anchors: Floats) -> Floats:
    return anchors[:, None, :2] + raw.reshape(-1, 5, 2) * anchors[:, None, 2:]


# The two scores were chosen on photos rotated by 90, 180 and 270 degrees; see tests/accuracy/test_rotation.py. Of 450
# photos of LFW turned upside down, 7 had upright faces with scores of 0.910 to 0.917; 1 % of upright ones are less.
YUNET = DetectorHead("yunet", 1, 0.6, 0.91, 0.92, _centre_and_log_size, _offsets)
SCRFD = DetectorHead("scrfd", 2, 0.5, 0.8, 0.8, _distances_to_sides, _offsets)

HEADS = {head.family: head for head in (YUNET, SCRFD)}
