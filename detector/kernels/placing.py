"""The compiled loop that moves a page's words and cuts them; its plain twin is in tests/data/test_augment.py.

Shapes: N polygons, P all their vertices one after another, M = N + 1, V vertices of one. Polygon n has the vertices
starts_M[n] ... starts_M[n + 1] - 1. Coordinates: corner origin, px.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled
from detector.types import Float64


@compiled
def place(
    points_P2: Float64,
    starts_M: NDArray[np.int64],
    matrix_33: Float64,
    image_w: float,
    image_h: float,
    canvas_w: float,
    canvas_h: float,
) -> tuple[Float64, NDArray[np.int64], Float64]:
    """Cut each polygon by the image, move it, cut it by the canvas.

    Returns:
        Vertices of what is left, where each polygon's begin (M), and which share of its area is left (N); nothing is
        left of a share of 0.
    """
    words = len(starts_M) - 1
    out_Q2 = np.empty((2 * len(points_P2) + 8 * words, 2))
    ends_M = np.zeros(words + 1, np.int64)
    share_N = np.zeros(words)
    for n in range(words):
        ends_M[n + 1] = ends_M[n]
        word_V2 = points_P2[starts_M[n] : starts_M[n + 1]]
        on_image = clip_to_box(word_V2, image_w, image_h)
        if len(on_image) < 3:
            continue
        moved = transform_points(on_image, matrix_33)
        shown = clip_to_box(moved, canvas_w, canvas_h)
        size = _area(shown)
        if len(shown) < 3 or size <= 0.0:
            continue
        share_N[n] = _area(on_image) / _area(word_V2) * size / _area(moved)
        ends_M[n + 1] += len(shown)
        out_Q2[ends_M[n] : ends_M[n + 1]] = shown
    return out_Q2[: ends_M[words]], ends_M, share_N


@compiled
def transform_points(points_V2: Float64, matrix_33: Float64) -> Float64:
    """Points under a homogeneous matrix."""
    out_V2 = np.empty_like(points_V2)
    affine = matrix_33[2, 0] == 0.0 and matrix_33[2, 1] == 0.0 and matrix_33[2, 2] == 1.0
    for k in range(len(points_V2)):
        x, y = points_V2[k, 0], points_V2[k, 1]
        depth = 1.0 if affine else matrix_33[2, 0] * x + matrix_33[2, 1] * y + matrix_33[2, 2]
        out_V2[k, 0] = (matrix_33[0, 0] * x + matrix_33[0, 1] * y + matrix_33[0, 2]) / depth
        out_V2[k, 1] = (matrix_33[1, 0] * x + matrix_33[1, 1] * y + matrix_33[1, 2]) / depth
    return out_V2


@compiled
def clip_to_box(polygon_V2: Float64, width: float, height: float) -> Float64:
    """The part inside [0, width] x [0, height] (Sutherland and Hodgman 1974), as `detector.geometry.clip_polygon`."""
    here = polygon_V2
    for side in range(4):
        axis = side // 2
        sign = 1.0 if side % 2 == 0 else -1.0
        limit = 0.0 if side % 2 == 0 else (width if axis == 0 else height)
        inside = 0
        for k in range(len(here)):
            inside += sign * (here[k, axis] - limit) >= 0.0
        if inside == len(here):
            continue
        if inside == 0:
            return here[:0]
        here = _cut(here, axis, sign, limit)
    return here


@compiled
def _cut(polygon_V2: Float64, axis: int, sign: float, limit: float) -> Float64:
    """One side's cut: vertices inside, and the points where edges cross the line."""
    out_V2 = np.empty((2 * len(polygon_V2), 2))
    count = 0
    other = 1 - axis
    for k in range(len(polygon_V2)):
        before = k - 1 if k > 0 else len(polygon_V2) - 1
        inside = sign * (polygon_V2[k, axis] - limit) >= 0.0
        if inside != (sign * (polygon_V2[before, axis] - limit) >= 0.0):
            share = (limit - polygon_V2[before, axis]) / (polygon_V2[k, axis] - polygon_V2[before, axis])
            out_V2[count, axis] = limit
            out_V2[count, other] = polygon_V2[before, other] + share * (
                polygon_V2[k, other] - polygon_V2[before, other]
            )
            count += 1
        if inside:
            out_V2[count, 0], out_V2[count, 1] = polygon_V2[k, 0], polygon_V2[k, 1]
            count += 1
    return out_V2[:count]


@compiled
def _area(polygon_V2: Float64) -> float:
    """Area in px^2 from the first vertex, so that nothing cancels far from the origin."""
    doubled = 0.0
    for k in range(1, len(polygon_V2) - 1):
        ax, ay = polygon_V2[k, 0] - polygon_V2[0, 0], polygon_V2[k, 1] - polygon_V2[0, 1]
        bx, by = polygon_V2[k + 1, 0] - polygon_V2[0, 0], polygon_V2[k + 1, 1] - polygon_V2[0, 1]
        doubled += ax * by - bx * ay
    return abs(doubled) / 2.0
