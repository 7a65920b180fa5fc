"""A face detector that runs an anchor network at two scales and, if necessary, in other orientations.

Each photo is padded to one of a few canvas sizes. A face that fills the frame is larger than the faces that the network
was trained on, so the detector also runs on a reduced, padded copy of the photo if the first run suggests such a face.
NMS merges the candidates of both scales.

In rotated photos the network often finds a face with an ordinary score but with landmarks far from eyes and mouth, so a
detected face does not prove that the photo is upright. If the best score is below `turn_score` of the family, the
detector tries the other orientations and uses the one with the best score. Photos of an extreme shape are also looked
at in tiles, whose orientation is chosen once for the photo, and tilted faces again, turned upright.
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
from models.detection.tiles import distinct_heads, longest_tile_side, show_same_head, tiles_of
from models.detection.tilt import COARSE_VIEW, FINE_VIEW, look_again
from models.runtime import Session

DETECTOR_OUTPUTS = ("scores", "boxes", "landmarks")

_NMS_IOU = 0.3  # default of OpenCV's FaceDetectorYN
_COARSE_SIDE = 160  # most accurate on LFW close-ups at this cost; 128 px is clearly worse
_COARSE_PADDING = (COARSE_VIEW.side - _COARSE_SIDE) // 2
_COARSE_CANVAS = (COARSE_VIEW.side, COARSE_VIEW.side)
_LARGE_FACE_PX = 416  # side in the full photo above which the reduced copy yields better landmarks
_MIN_SIDE = FINE_VIEW.side  # enlarging smaller photos improves landmarks (LFW at 250 px: 99.3 % without, 99.5 % with)
_TURN_MARGIN = 0.02  # minimum score gain of another orientation over the original one
_TRIED_TILES = 16  # on which the orientation of a photo is chosen; panoramas of cameras have fewer tiles
_TURNS = (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180)


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """Resolution and number of faces of a detector.

    Attributes:
        max_side_px: Length in pixels to which the longer side of larger photos is reduced; a multiple of 128.
        max_faces: Maximum number of faces of a photo that are selected; those with the highest score are.
    """

    max_side_px: int = 640
    max_faces: int = 256


class Candidates(NamedTuple):
    """Candidate faces before NMS, in pixels of the image that was run."""

    scores: Floats
    boxes: Floats
    landmarks: Floats


def canvases(options: DetectionOptions) -> tuple[tuple[int, int], ...]:
    """Return the (height, width) of all canvases that the network is loaded for.

    A canvas is either square or has `max_side_px` as its longer side.
    """
    longest = options.max_side_px
    square_sides = sorted({_MIN_SIDE, _to_stride(0.8 * longest), longest})
    oblong_sides = sorted({_to_stride(share * longest) for share in (9 / 16, 2 / 3, 3 / 4)})  # aspect ratios of cameras
    squares = [(side, side) for side in square_sides]
    oblongs = [size for side in oblong_sides for size in ((side, longest), (longest, side))]
    return (_COARSE_CANVAS, *squares, *oblongs)


class AnchorDetector:
    """Face detector for networks that follow the detector contract of `models.graph`. Thread-safe."""

    def __init__(self, session: Session, head: DetectorHead, options: DetectionOptions | None = None) -> None:
        """Wrap a session.

        Args:
            session: Session that was loaded with `DETECTOR_OUTPUTS` for all of `canvases(options)`.
            head: Output encoding of the network.
            options: Resolution and number of faces; the defaults of `DetectionOptions` if None.
        """
        self._options = options or DetectionOptions()
        self._session = session
        self._head = head
        self._canvases = sorted(canvases(self._options), key=lambda size: size[0] * size[1])
        self._anchors = {size: head.anchors(*size) for size in self._canvases}
        self.family = head.family

    @property
    def session(self) -> Session:
        """Session that runs the network."""
        return self._session

    @property
    def max_side_px(self) -> int:
        """See `FaceDetector.max_side_px`."""
        return self._options.max_side_px

    def detect(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """See `FaceDetector.detect`."""
        faces = self._detect_part(image, deadline)
        height, width = image.shape[:2]
        tiles = tiles_of(width, height)
        if not tiles:
            return faces
        parts = [self._resized(image[rows, columns]) for rows, columns in tiles]
        found = self._detect_parts(parts, deadline)
        for (rows, columns), part, in_part in zip(tiles, parts, found, strict=True):
            factor = ((columns.stop - columns.start) / part.shape[1], (rows.stop - rows.start) / part.shape[0])
            faces += [face.scaled(factor).moved((columns.start, rows.start)) for face in in_part]
        return distinct_heads(faces)

    def confirm(self, image: NDArray[np.uint8], faces: list[Face], deadline: Deadline | None = None) -> list[Face]:
        """See `FaceDetector.confirm`."""

        def look(views: NDArray[np.uint8]) -> list[list[Face]]:
            return [self._suppress(candidates) for candidates in self._run(views, 0, deadline)]

        return [look_again(look, image, face, self._head.sure_score) for face in faces]

    def raster_scale(self, width: int, height: int) -> float:
        """See `FaceDetector.raster_scale`."""
        return self.max_side_px / longest_tile_side(width, height)

    def _detect_part(self, image: NDArray[np.uint8], deadline: Deadline | None) -> list[Face]:
        resized = self._resized(image)
        (faces,) = self._detect_parts([resized], deadline)
        factor = (image.shape[1] / resized.shape[1], image.shape[0] / resized.shape[0])
        return [face.scaled(factor) for face in faces]

    def _resized(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        longer = max(image.shape[:2])
        return _resize(image, min(max(longer, _MIN_SIDE), self.max_side_px) / longer)

    def _detect_parts(self, parts: list[NDArray[np.uint8]], deadline: Deadline | None) -> list[list[Face]]:
        """Detect the faces of parts of a photo, upright and all in the same other orientation."""
        found = [self._detect_two_scales(part, deadline) for part in parts]
        scores = [faces[0].score if faces else 0.0 for faces in found]
        unsure = [number for number, score in enumerate(scores) if score < self._head.turn_score]
        tried = _best_or_evenly({number: scores[number] for number in unsure}, _TRIED_TILES)
        turn = self._choose_turn([(parts[number], scores[number]) for number in tried], deadline)
        if turn is not None:
            for number in unsure:
                found[number] = self._detect_turned(parts[number], found[number], turn, deadline)
        return found

    def detect_once(self, image: NDArray[np.uint8], deadline: Deadline | None = None) -> list[Face]:
        """Detect faces at the given scale and orientation only.

        Args:
            image: (H, W, 3) uint8, RGB; the longer side is at most `max_side_px`.
            deadline: Deadline of the request.

        Returns:
            Faces in pixels of `image`, highest score first.
        """
        return self._suppress(self._candidates(image, 0, deadline))

    def _detect_two_scales(self, image: NDArray[np.uint8], deadline: Deadline | None) -> list[Face]:
        fine = self._candidates(image, 0, deadline)
        if not self._may_hide_a_close_up(fine, image):
            return self._suppress(fine)
        thumbnail = _resize(image, _COARSE_SIDE / max(image.shape[:2]))
        coarse = self._candidates(thumbnail, _COARSE_PADDING, deadline)
        factor = np.float32(max(image.shape[:2]) / max(thumbnail.shape[:2]))
        shift = (factor - 1) / 2  # pixel centres have integer coordinates
        boxes, landmarks = coarse.boxes * factor + shift, coarse.landmarks * factor + shift
        large = _sides(boxes) >= _LARGE_FACE_PX
        close_ups = (coarse.scores[large], boxes[large], landmarks[large])
        return self._suppress(Candidates(*(np.concatenate(pair) for pair in zip(fine, close_ups, strict=True))))

    def _may_hide_a_close_up(self, fine: Candidates, image: NDArray[np.uint8]) -> bool:
        """Return whether a large photo may show a close-up: all scores are low, or a detected face is large."""
        if max(image.shape[:2]) < _LARGE_FACE_PX:
            return False
        unsure = fine.scores.max(initial=0) < self._head.sure_score
        return bool(unsure or _sides(fine.boxes).max(initial=0) >= _LARGE_FACE_PX / 2)

    def _choose_turn(self, parts: list[tuple[NDArray[np.uint8], float]], deadline: Deadline | None) -> int | None:
        """Return the orientation with the best score on reduced copies of parts, or None if no part gains by one.

        Args:
            parts: Parts of one photo, each with its score in the original orientation.
            deadline: Deadline of the request.
        """
        best, chosen = 0.0, None
        for image, score in parts:
            small = _resize(image, min(1.0, _MIN_SIDE / max(image.shape[:2])))
            square = _on_canvas([_turned(small, turn) for turn in _TURNS], (_MIN_SIDE, _MIN_SIDE), 0)
            scores = [candidates.scores.max(initial=0) for candidates in self._run(square, 0, deadline)]
            turn = int(np.argmax(scores))
            if scores[turn] > max(best, score + _TURN_MARGIN):
                best, chosen = scores[turn], _TURNS[turn]
        return chosen

    def _detect_turned(
        self, image: NDArray[np.uint8], faces: list[Face], turn: int, deadline: Deadline | None
    ) -> list[Face]:
        """Return the faces of another orientation together with other `faces`, or `faces` if it is not better."""
        found = self._detect_two_scales(_turned(image, turn), deadline)
        if not found or found[0].score <= (faces[0].score if faces else 0.0) + _TURN_MARGIN:
            return faces
        turned = [_turn_back(face, turn, image.shape) for face in found]
        # Upright faces beside a rotated one are kept, because the policy `single` must reject a photo of two people.
        # A second look drops the false ones, which the networks find in photos that are upside down.
        beside = [face for face in faces if not any(show_same_head(face, other) for other in turned)]
        upright = [face for face in self.confirm(image, beside, deadline) if face.confirmed]
        return sorted(turned + upright, key=lambda face: -face.score)

    def _candidates(self, image: NDArray[np.uint8], padding: int, deadline: Deadline | None) -> Candidates:
        height, width = image.shape[0] + 2 * padding, image.shape[1] + 2 * padding
        size = next((rows, columns) for rows, columns in self._canvases if height <= rows and width <= columns)
        (candidates,) = self._run(_on_canvas([image], size, padding), padding, deadline)
        return candidates

    def _run(self, canvas: NDArray[np.uint8], padding: int, deadline: Deadline | None) -> list[Candidates]:
        found = []
        for scores, boxes, landmarks in zip(*self._session.run(canvas, deadline), strict=True):
            accepted = np.flatnonzero(scores >= self._head.min_score)
            anchors = self._anchors[canvas.shape[1:3]][accepted]
            found.append(
                Candidates(
                    scores[accepted],
                    self._head.decode_boxes(boxes[accepted], anchors) - padding,
                    self._head.decode_landmarks(landmarks[accepted], anchors) - padding,
                )
            )
        return found

    def _suppress(self, candidates: Candidates) -> list[Face]:
        if not len(candidates.scores):
            return []
        corner_and_size = np.concatenate(
            [candidates.boxes[:, :2], candidates.boxes[:, 2:] - candidates.boxes[:, :2]], axis=1
        )
        indices = cv2.dnn.NMSBoxes(
            corner_and_size.tolist(), candidates.scores.tolist(), self._head.min_score, _NMS_IOU
        )  # highest score first
        return [
            Face(candidates.boxes[index], candidates.landmarks[index], float(candidates.scores[index]))
            for index in np.asarray(indices, dtype=np.intp)
        ]


def _best_or_evenly(scores: dict[int, float], count: int) -> list[int]:
    """Return at most `count` keys: those with the highest scores, then some with the score 0, evenly spread."""
    best = sorted((number for number, score in scores.items() if score), key=lambda number: -scores[number])[:count]
    empty = [number for number, score in scores.items() if not score]
    places = np.linspace(0, len(empty) - 1, min(len(empty), count - len(best))).astype(int)
    return best + [empty[place] for place in places]


def _sides(boxes: Floats) -> Floats:
    """Return the longer side of each box."""
    sides: Floats = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)
    return sides


def _to_stride(side: float) -> int:
    """Round up to a multiple of the network's largest stride."""
    return math.ceil(side / STRIDES[-1]) * STRIDES[-1]


def _on_canvas(images: list[NDArray[np.uint8]], size: tuple[int, int], padding: int) -> NDArray[np.uint8]:
    """Place images on black canvases, `padding` pixels from the top left corner."""
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
    # Area averaging is slower and only necessary where a linear filter would skip pixels.
    interpolation = cv2.INTER_AREA if factor < 0.5 else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)


def _turn_back(face: Face, turn: int, shape: tuple[int, ...]) -> Face:
    """Map a face from a rotated photo to the original photo, whose shape is (height, width, ...)."""
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
