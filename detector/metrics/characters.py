"""How many characters a box is taken for, and where their centres lie, in both variants of CLEval.

Shapes: V vertices, n characters. All arithmetic is float64, in the order of operations of the scorers, since a count
may hang on the last bit (`round` is Python's: halves go to the even number).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from detector.types import Float64

# `cleval` 0.1.1, box_types.QUAD and eval_functions.get_num_fp_char
OFFICIAL_EPS = 1e-5
OFFICIAL_MOST = 10
VERTICAL = 0.5  # below this aspect ratio the centres run along the other pair of sides

# the receipt competition's scorer
COMPETITION_EPS = float(np.finfo(np.float32).eps)
COMPETITION_MOST = 100
# Areas that differ by no more are one and the same: of a turned rectangle the last bits would choose the edge, and they
# depend on the machine's matrix product. Rounding leaves about 1e-13.
SAME_AREA = 1e-9


@dataclass(frozen=True, slots=True)
class Rule:
    """What a variant asks of one polygon.

    Attributes:
        aspect_ratio: of a polygon (V, 2).
        length: characters of a word without transcription, from its aspect ratio.
        false_characters: characters of a detection that matches nothing, from its aspect ratio.
        centres: (n, 2) from polygon, aspect ratio and n.
    """

    aspect_ratio: Callable[[Float64], float]
    length: Callable[[float], int]
    false_characters: Callable[[float], int]
    centres: Callable[[Float64, float, int], Float64]


# --- official


def quad_aspect_ratio(quad_42: Float64) -> float:
    """Mean of sides 1 and 3 over mean of sides 2 and 4. A polygon of other than 4 vertices: width over height of the
    smallest rectangle over its hull, the longer side as the width."""
    if len(quad_42) != 4:
        width, height = smallest_rectangle(quad_42)
        return (max(width, height) + OFFICIAL_EPS) / (min(width, height) + OFFICIAL_EPS)
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = quad_42.tolist()
    across = (_distance(x0 - x1, y0 - y1) + _distance(x2 - x3, y2 - y3)) / 2
    down = (_distance(x1 - x2, y1 - y2) + _distance(x3 - x0, y3 - y0)) / 2
    return (across + OFFICIAL_EPS) / (down + OFFICIAL_EPS)


def _distance(d_x: float, d_y: float) -> float:
    return math.sqrt(d_x * d_x + d_y * d_y)  # math.hypot rounds differently


def quad_length(ratio: float) -> int:
    """min(round(0.5 + max(ar, 1 / ar)), 10)."""
    return _rounded(max(ratio, 1 / ratio), OFFICIAL_MOST)


def quad_false_characters(ratio: float) -> int:
    """min(round(0.5 + 1 / ar), 10)."""
    return _rounded(1 / (OFFICIAL_EPS + ratio), OFFICIAL_MOST)


def quad_centres(quad_42: Float64, ratio: float, n: int) -> Float64:
    """n centres along the middle line from the left side to the right; top to bottom for upright words."""
    if n == 0:
        return np.zeros((0, 2))
    if len(quad_42) != 4:
        return section_centres(quad_42, ratio, n)
    corners = quad_42.tolist()
    if ratio < VERTICAL:
        corners = corners[-1:] + corners[:-1]
    (x0, y0), (x1, y1), (x2, y2), (x3, y3) = corners
    left_x, left_y = (x0 + x3) / 2, (y0 + y3) / 2
    right_x, right_y = (x1 + x2) / 2, (y1 + y2) / 2
    unit_x, unit_y = (right_x - left_x) / n, (right_y - left_y) / n
    index_n = np.arange(n)
    return np.stack([left_x + unit_x / 2 + unit_x * index_n, left_y + unit_y / 2 + unit_y * index_n], axis=1)


# --- competition


def polygon_aspect_ratio(polygon_V2: Float64) -> float:
    """min(100, h / (w + eps)) of the smallest rectangle; a polygon without area has h = 0."""
    width, height = smallest_rectangle(polygon_V2)
    return min(100.0, height / (width + COMPETITION_EPS))


def smallest_rectangle(polygon_V2: Float64) -> tuple[float, float]:
    """Sides of the smallest rectangle over the hull's edges: w along the edge, h across it, px.

    Edges come in the order of `scipy.spatial.ConvexHull`, and the first minimum wins: of a rectangle all four edges
    give the same area, so that order decides which side is w.
    """
    from detector.kernels.rectangles import rectangle_of

    polygon_V2 = np.ascontiguousarray(polygon_V2, dtype=np.float64)
    width, height, sure = rectangle_of(polygon_V2, SAME_AREA)
    return (width, height) if sure else _listed_rectangle(polygon_V2.tobytes())


@lru_cache(maxsize=1 << 16)  # searching thresholds meets the same false positives over and over
def _listed_rectangle(vertices: bytes) -> tuple[float, float]:
    """The same with the edges as scipy lists them, for polygons of which the order of edges decides."""
    from scipy.spatial import ConvexHull, QhullError

    from detector.kernels.rectangles import rectangle_over

    polygon_V2 = np.frombuffer(vertices, np.float64).reshape(-1, 2)
    try:
        hull_K2 = polygon_V2[ConvexHull(polygon_V2).vertices]
    except QhullError:  # all vertices on one line, or on one point
        return float(np.linalg.norm(polygon_V2.max(axis=0) - polygon_V2.min(axis=0))), 0.0
    width, height, _ = rectangle_over(hull_K2, SAME_AREA)
    return width, height


def polygon_length(ratio: float) -> int:
    """min(round(0.5 + max(ar, 1 / (ar + eps))), 100)."""
    return _rounded(max(ratio, 1 / (ratio + COMPETITION_EPS)), COMPETITION_MOST)


def polygon_false_characters(ratio: float) -> int:
    """min(round(0.5 + 1 / (eps + ar)), 100)."""
    return _rounded(1 / (COMPETITION_EPS + ratio), COMPETITION_MOST)


def section_centres(polygon_V2: Float64, ratio: float, n: int) -> Float64:
    """n centres between the top line (first half of the vertices) and the bottom line (second half, reversed).

    Each section between neighbours is cut in n parts, whose inner points are truncated to integers. With m points on a
    line and s = (m - 1) / n, centre c is the mean of points int(c s) and int((c + 1) s) of both lines. Of an odd number
    of vertices the bottom line has one more; it takes as many sections as the top line, and ends in its last vertex.
    """
    half = len(polygon_V2) // 2
    top_L2 = _cut(polygon_V2[:half], half - 1, n)
    bottom_L2 = _cut(polygon_V2[half:][::-1], half - 1, n)
    step = (len(top_L2) - 1) / n
    first_n = [int(c * step) for c in range(n)]
    second_n = [int((c + 1) * step) for c in range(n)]
    return (top_L2[first_n] + top_L2[second_n] + bottom_L2[first_n] + bottom_L2[second_n]) / 4


def _cut(line_V2: Float64, sections: int, n: int) -> Float64:
    """The line's points, (sections x n + 1, 2)."""
    start_S12 = line_V2[:sections, None]
    part_S12 = (line_V2[1 : sections + 1, None] - start_S12) / n
    points_Sn2 = start_S12 + part_S12 * np.arange(n)[:, None]
    points_Sn2[:, 1:] = np.trunc(points_Sn2[:, 1:])
    return np.concatenate([points_Sn2.reshape(-1, 2), line_V2[-1:]])


def _rounded(characters: float, most: int) -> int:
    return min(round(0.5 + characters), most)


OFFICIAL = Rule(quad_aspect_ratio, quad_length, quad_false_characters, quad_centres)
COMPETITION = Rule(polygon_aspect_ratio, polygon_length, polygon_false_characters, section_centres)
