"""Points between the two frames of an image file: as its pixels are stored, and upright as EXIF (tag 274) turns them.

Corner coordinates in px. Shapes: V vertices. w, h: stored width and height.
"""

from __future__ import annotations

import numpy as np

from detector.geometry import transform
from detector.types import Float64

# x' = a x + b y + e w + f h, and so y', for each value of the tag: EXIF 2.32, table 4.
_TURNS = {
    1: ((1, 0, 0, 0), (0, 1, 0, 0)),
    2: ((-1, 0, 1, 0), (0, 1, 0, 0)),
    3: ((-1, 0, 1, 0), (0, -1, 0, 1)),
    4: ((1, 0, 0, 0), (0, -1, 0, 1)),
    5: ((0, 1, 0, 0), (1, 0, 0, 0)),
    6: ((0, -1, 0, 1), (1, 0, 0, 0)),
    7: ((0, -1, 0, 1), (-1, 0, 1, 0)),
    8: ((0, 1, 0, 0), (-1, 0, 1, 0)),
}


def stored_size(orientation: int, upright_wh: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the stored pixels."""
    return (upright_wh[1], upright_wh[0]) if orientation >= 5 else upright_wh


def to_upright(points_V2: Float64, orientation: int, upright_wh: tuple[int, int]) -> Float64:
    """Points of the stored picture where a person sees them."""
    return transform(points_V2, _matrix(orientation, upright_wh))


def to_stored(points_V2: Float64, orientation: int, upright_wh: tuple[int, int]) -> Float64:
    """Points of the upright picture where its pixels are stored."""
    # Turns by a quarter are not their own opposites: 6 and 8 undo each other.
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    return transform(points_V2, _matrix(inverse, stored_size(orientation, upright_wh)))


def _matrix(orientation: int, upright_wh: tuple[int, int]) -> Float64:
    """The turn of `orientation` for a picture that is `upright_wh` after it."""
    width, height = stored_size(orientation, upright_wh)
    rows = [(a, b, e * width + f * height) for a, b, e, f in _TURNS[orientation]]
    return np.array([*rows, (0, 0, 1)], dtype=np.float64)
