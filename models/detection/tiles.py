"""Divide a photo of an extreme shape into overlapping tiles.

Reduced as a whole to the detector's side, a panorama of 12000 x 1500 pixels would be 80 pixels high.
"""

import math

import numpy as np

from models.detection.face import Face

_MAX_ASPECT = 2.5  # photos of cameras and phones have at most 21 : 9
_MAX_TILES = 32
_MAX_USEFUL_ASPECT = 1000  # a tile of a thinner photo, reduced to 640 pixels, would be below 10 pixels high
_SAME_HEAD = 0.3  # minimum shared part of the smaller box; a false upright box in a rotated face shares more


def tiles_of(width: int, height: int) -> list[tuple[slice, slice]]:
    """Return the (rows, columns) of overlapping tiles; none for a photo of an ordinary shape or too thin for faces.

    Tiles are square and overlap by half, so a face of up to half the shorter side is whole in one of them. Tiles of a
    photo that would need more than 32 of them are oblong.
    """
    longer, shorter = max(width, height), min(width, height)
    if not _MAX_ASPECT * shorter < longer <= _MAX_USEFUL_ASPECT * shorter:
        return []
    length = _tile_length(longer, shorter)
    count = math.ceil((longer - length) / (length / 2)) + 1
    spans = [slice(start, start + length) for start in np.linspace(0, longer - length, count).astype(int).tolist()]
    across = slice(0, shorter)
    return [(across, span) if width > height else (span, across) for span in spans]


def longest_tile_side(width: int, height: int) -> int:
    """Return the longer side of the tiles of a photo, or of the photo if it has an ordinary shape."""
    longer, shorter = max(width, height), min(width, height)
    return longer if longer <= _MAX_ASPECT * shorter else _tile_length(longer, shorter)


def _tile_length(longer: int, shorter: int) -> int:
    return max(shorter, math.ceil(2 * longer / (_MAX_TILES + 1)))


def distinct_heads(faces: list[Face]) -> list[Face]:
    """Return the faces of which none shows the same head as one with a higher score, highest score first."""
    distinct: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        if not any(show_same_head(face, other) for other in distinct):
            distinct.append(face)
    return distinct


def show_same_head(first: Face, second: Face) -> bool:
    """Return whether two boxes share so much of the smaller box that they show the same head."""
    shared = np.minimum(first.box[2:], second.box[2:]) - np.maximum(first.box[:2], second.box[:2])
    return float(np.prod(np.maximum(shared, 0))) >= _SAME_HEAD * min(first.area, second.area)
