"""A detector around an anchor network: letterbox, two scales, one NMS, and a second look at photos on their side.

Faces that fill the frame are larger than anything that the network was trained on, so a small padded copy of the
picture is looked at as well where the first look leaves room for one. Photos on their side are the harder case: the
network often finds *something* in them, with an ordinary score and landmarks that are nowhere near eyes and mouth, so
"no face found" is no sign to go by. A best score below the family's `sure_score` is; then the orientation with the best
score wins.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from models.deadline import Deadline
from models.detection.face import Face
from models.detection.heads import STRIDES, DetectorHead, Floats
from models.runtime import Session

DETECTOR_OUTPUTS = ("scores", "boxes", "landmarks")

_NMS_IOU = 0.3  # OpenCV's FaceDetectorYN
_COARSE_SIDE, _COARSE_PADDING = 160, 32  # best landmarks on close-ups of LFW at that cost; 128 px is clearly worse
_COARSE_CANVAS = (_COARSE_SIDE + 2 * _COARSE_PADDING,) * 2
_LARGE_FACE_PX = 416  # in the full picture; up to there it gives the better landmarks, beyond the small copy does
_MIN_SIDE = 384  # smaller photos are enlarged: landmarks get better (LFW at 250 px: 99.3 % as it is, 99.5 % enlarged)
_SAME_HEAD = 0.3  # of the smaller box; what is seen upright in a face on its side lies well within it
_TURN_MARGIN = 0.02  # another orientation must be that much better than the one in which the photo came
_TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180)


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """How closely to look.

    Attributes:
        max_side_px: Longest side at which a picture is looked at; a multiple of 128.
        max_faces: At most that many faces are given, best score first.
    """

    max_side_px: int = 640
    max_faces: int = 256


class Candidates(NamedTuple):
    """Faces before NMS, in pixels of the picture."""

    scores: Floats
    boxes: Floats
    landmarks: Floats


def canvases(options: DetectionOptions) -> tuple[tuple[int, int], ...]:
    """List the (height, width) that the network is loaded for.

    A photo is at most `max_side_px` long, so one side of its canvas is that or the canvas is square.
    """
    longest = options.max_side_px
    square_sides = sorted({_MIN_SIDE, _to_stride(0.8 * longest), longest})
    oblong_sides = sorted({_to_stride(share * longest) for share in (9 / 16, 2 / 3, 3 / 4)})  # what cameras give
    squares = [(side, side) for side in square_sides]
    oblongs = [size for side in oblong_sides for size in ((side, longest), (longest, side))]
    return (_COARSE_CANVAS, *squares, *oblongs)


class AnchorDetector:
    """Finds faces with a network in the detector contract of `models.graph`."""

    def __init__(self, session: Session, head: DetectorHead, options: DetectionOptions | None = None) -> None:
        """Wrap a session.

        Args:
            session: Loaded with `DETECTOR_OUTPUTS` for all of `canvases(options)`.
            head: The network's family.
            options: How closely to look.
        """
        self._options = options or DetectionOptions()
        self._session = session
        self._head = head
        self._canvases = sorted(canvases(self._options), key=lambda size: size[0] * size[1])
        self._anchors = {size: head.anchors(*size) for size in self._canvases}
        self.family = head.family

    @property
    def session(self) -> Session:
        """The network."""
        return self._session

    @property
    def max_side_px(self) -> int:
        """See `FaceDetector.max_side_px`."""
        return self._options.max_side_px

    def detect(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """See `FaceDetector.detect`."""
        longer = max(image.shape[:2])
        seen = _resize(image, min(max(longer, _MIN_SIDE), self.max_side_px) / longer)
        faces = self._look(seen, deadline)
        if not faces or faces[0].score < self._head.sure_score:
            faces = self._best_turn(seen, faces, deadline)
        factor = (image.shape[1] / seen.shape[1], image.shape[0] / seen.shape[0])
        return [face.scaled(factor) for face in faces]

    def detect_once(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """Find faces at the picture's own scale and orientation alone; its longer side is at most `max_side_px`."""
        return self._suppress(self._candidates(image, 0, deadline))

    def _look(self, image: NDArray[np.uint8], deadline: Deadline | None) -> list[Face]:
        fine = self._candidates(image, 0, deadline)
        if not self._may_hide_a_close_up(fine, image):
            return self._suppress(fine)
        thumbnail = _resize(image, _COARSE_SIDE / max(image.shape[:2]))
        coarse = self._candidates(thumbnail, _COARSE_PADDING, deadline)
        factor = np.float32(max(image.shape[:2]) / max(thumbnail.shape[:2]))
        shift = (factor - 1) / 2  # pixel centres are whole numbers
        boxes, landmarks = coarse.boxes * factor + shift, coarse.landmarks * factor + shift
        large = _sides(boxes) >= _LARGE_FACE_PX
        close_ups = (coarse.scores[large], boxes[large], landmarks[large])
        return self._suppress(Candidates(*(np.concatenate(pair) for pair in zip(fine, close_ups, strict=True))))

    def _may_hide_a_close_up(self, fine: Candidates, image: NDArray[np.uint8]) -> bool:
        """Tell whether a small copy is worth a look: there is room, and no sure face or a suspiciously large one."""
        if max(image.shape[:2]) < _LARGE_FACE_PX:
            return False
        unsure = fine.scores.max(initial=0) < self._head.sure_score
        return bool(unsure or _sides(fine.boxes).max(initial=0) >= _LARGE_FACE_PX / 2)

    def _best_turn(self, image: NDArray[np.uint8], faces: list[Face], deadline: Deadline | None) -> list[Face]:
        """Look at small copies of the other orientations, and closely at one that shows a surer face."""
        small = _resize(image, min(1.0, _MIN_SIDE / max(image.shape[:2])))
        square = _on_canvas([_turned(small, turn) for turn in _TURNS], (_MIN_SIDE, _MIN_SIDE), 0)
        scores = [candidates.scores.max(initial=0) for candidates in self._run(square, 0, deadline)]
        best = int(np.argmax(scores))
        bar = (faces[0].score if faces else 0.0) + _TURN_MARGIN
        if scores[best] <= bar:
            return faces
        found = self._look(_turned(image, _TURNS[best]), deadline)
        if not found or found[0].score <= bar:
            return faces
        turned = [_turn_back(face, _TURNS[best], image.shape) for face in found]
        # Upright faces beside one on its side stay: whoever asks for a single face must not be given one of two.
        others = [face for face in faces if not any(_covers(other, face) for other in turned)]
        return sorted(turned + others, key=lambda face: -face.score)

    def _candidates(self, image: NDArray[np.uint8], padding: int, deadline: Deadline | None) -> Candidates:
        height, width = image.shape[0] + 2 * padding, image.shape[1] + 2 * padding
        size = next((rows, columns) for rows, columns in self._canvases if height <= rows and width <= columns)
        (candidates,) = self._run(_on_canvas([image], size, padding), padding, deadline)
        return candidates

    def _run(self, canvas: NDArray[np.uint8], padding: int, deadline: Deadline | None) -> list[Candidates]:
        found = []
        for scores, boxes, landmarks in zip(*self._session.run(canvas, deadline), strict=True):
            kept = np.flatnonzero(scores >= self._head.min_score)
            anchors = self._anchors[canvas.shape[1:3]][kept]
            found.append(
                Candidates(
                    scores[kept],
                    self._head.decode_boxes(boxes[kept], anchors) - padding,
                    self._head.decode_landmarks(landmarks[kept], anchors) - padding,
                )
            )
        return found

    def _suppress(self, candidates: Candidates) -> list[Face]:
        if not len(candidates.scores):
            return []
        corner_and_size = np.concatenate(
            [candidates.boxes[:, :2], candidates.boxes[:, 2:] - candidates.boxes[:, :2]], axis=1
        )
        kept = cv2.dnn.NMSBoxes(
            corner_and_size.tolist(), candidates.scores.tolist(), self._head.min_score, _NMS_IOU
        )  # best score first
        return [
            Face(candidates.boxes[index], candidates.landmarks[index], float(candidates.scores[index]))
            for index in np.asarray(kept, dtype=np.intp)[: self._options.max_faces]
        ]


def _covers(one: Face, other: Face) -> bool:
    """Tell whether two boxes are of the same head: they share a good part of the smaller one."""
    shared = np.minimum(one.box[2:], other.box[2:]) - np.maximum(one.box[:2], other.box[:2])
    return float(np.prod(np.maximum(shared, 0))) >= _SAME_HEAD * min(one.area, other.area)


def _sides(boxes: Floats) -> Floats:
    """Return the longer side of each box."""
    sides: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    return sides


def _to_stride(side: float) -> int:
    """Round up to a multiple of the network's largest stride."""
    return math.ceil(side / STRIDES[-1]) * STRIDES[-1]


def _on_canvas(images: list[NDArray[np.uint8]], size: tuple[int, int], padding: int) -> NDArray[np.uint8]:
    """Lay pictures on black canvases, `padding` pixels from the top left corner."""
    if len(images) == 1 and images[0].shape[:2] == size:
        return np.ascontiguousarray(images[0][None])
    canvas = np.zeros((len(images), *size, 3), np.uint8)
    for layer, image in zip(canvas, images, strict=True):
        layer[padding : padding + image.shape[0], padding : padding + image.shape[1]] = image
    return canvas


def _turned(image: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    return cv2.rotate(image, turn).astype(np.uint8, copy=False)


def _resize(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    if factor == 1:
        return image
    height, width = image.shape[:2]
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    # Averaging the area is slower and only matters where a linear filter would skip pixels.
    interpolation = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)


def _turn_back(face: Face, turn: int, shape: tuple[int, ...]) -> Face:
    """Map a face found in a turned picture to the picture itself, of the given (height, width, ...)."""
    height, width = shape[:2]

    def back(points: Floats) -> Floats:
        x, y = points[:, 0], points[:, 1]
        if turn == cv2.ROTATE_90_CLOCKWISE:
            return np.stack([y, height - 1 - x], axis=1)
        if turn == cv2.ROTATE_90_COUNTERCLOCKWISE:
            return np.stack([width - 1 - y, x], axis=1)
        return np.stack([width - 1 - x, height - 1 - y], axis=1)

    corners = back(face.box.reshape(2, 2))
    box = np.concatenate([corners.min(axis=0), corners.max(axis=0)])
    return Face(box, back(face.landmarks), face.score)
