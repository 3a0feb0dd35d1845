"""The smallest rectangle over the edges of a hull, with Qhull's order of edges where that decides.

Of a rectangle all four edges give the same area, so the first one decides which side is the width, and the definition
of the competition's scorer takes them as `scipy.spatial.ConvexHull` lists them. For four points in convex position that
order is known: Qhull starts from a triangle (`qh_maxsimplex`), whose first facet that survives leads the list. Of other
polygons the order matters only where rectangles across each other are equally small; then the caller must ask scipy.

Shapes: V vertices, K corners of the hull, counterclockwise in axes of x right and y up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import compiled
from detector.types import Float64

FLAT = 1e-6  # a triangle or hull flatter than this part of its extent squared is left to Qhull's own tolerances
DOUBT = 1.5  # rectangles up to so many times the allowed difference larger count as equal when doubt is weighed


@compiled
def rectangle_of(points_V2: Float64, same_area: float) -> Any:
    """(width, height, sure): sides of the smallest rectangle, and whether the order of edges could not change it."""
    if len(points_V2) == 4:
        hull_K2, known = _quad_hull(points_V2)
        if known:
            width, height, _ = rectangle_over(hull_K2, same_area)
            return width, height, True
    hull_K2 = _hull(points_V2)
    if len(hull_K2) < 3:
        return 0.0, 0.0, False
    return rectangle_over(hull_K2, same_area)


@compiled
def rectangle_over(hull_K2: Float64, same_area: float) -> Any:
    """(width, height, sure) of the first edge whose rectangle is no larger than the smallest x (1 + same_area)."""
    count = len(hull_K2)
    sides_K2 = np.empty((count, 2))
    least = np.inf
    for k in range(count):
        j = k + 1 if k + 1 < count else 0
        d_x, d_y = hull_K2[j, 0] - hull_K2[k, 0], hull_K2[j, 1] - hull_K2[k, 1]
        length = np.sqrt(d_x * d_x + d_y * d_y)
        d_x, d_y = d_x / length, d_y / length
        low_u = high_u = hull_K2[0, 0] * d_x + hull_K2[0, 1] * d_y
        low_v = high_v = hull_K2[0, 1] * d_x - hull_K2[0, 0] * d_y
        for i in range(1, count):
            u = hull_K2[i, 0] * d_x + hull_K2[i, 1] * d_y
            v = hull_K2[i, 1] * d_x - hull_K2[i, 0] * d_y
            low_u, high_u = min(low_u, u), max(high_u, u)
            low_v, high_v = min(low_v, v), max(high_v, v)
        sides_K2[k, 0], sides_K2[k, 1] = high_u - low_u, high_v - low_v
        least = min(least, sides_K2[k, 0] * sides_K2[k, 1])
    first = -1
    for k in range(count):
        if first < 0 and sides_K2[k, 0] * sides_K2[k, 1] <= least * (1.0 + same_area):
            first = k
    width, height = sides_K2[first, 0], sides_K2[first, 1]
    sure = least > FLAT * (width * width + height * height)
    for k in range(count):
        if sides_K2[k, 0] * sides_K2[k, 1] <= least * (1.0 + DOUBT * same_area):
            sure = sure and abs(sides_K2[k, 0] - width) <= same_area * (width + height)
    return width, height, sure


@compiled
def _quad_hull(p: Float64) -> Any:
    """Four points in Qhull's order, and whether it is known: they must stand in convex order already, without doubt."""
    extent = max(p[:, 0].max() - p[:, 0].min(), p[:, 1].max() - p[:, 1].min())
    turns = 0
    for i in range(4):
        turn = _turn(p, i, (i + 1) % 4, (i + 2) % 4)
        if abs(turn) > FLAT * extent * extent:
            turns += 1 if turn > 0.0 else -1
    if abs(turns) != 4:
        return p, False
    # qh_maxmin: the lowest and highest point of each axis, in this order; the first of equals
    extremes = np.zeros(4, np.int64)
    for axis in range(2):
        for i in range(1, 4):
            if p[extremes[2 * axis + 1], axis] < p[i, axis]:
                extremes[2 * axis + 1] = i
            elif p[extremes[2 * axis], axis] > p[i, axis]:
                extremes[2 * axis] = i
    # qh_maxsimplex: leftmost and rightmost of them, then the one that spans the largest triangle; the first of equals
    left = right = third = -1
    widest = -1.0
    for m in range(4):
        i = int(extremes[m])
        left = i if left < 0 or p[i, 0] < p[left, 0] else left
        right = i if right < 0 or p[i, 0] > p[right, 0] else right
    for m in range(4):
        i = int(extremes[m])
        spans = abs(_turn(p, i, left, right))
        if i not in (left, right, third) and spans > widest:
            widest, third = spans, i
    if third < 0:
        return p, False
    # Facets in the list: (left, right), (third, left), ...; one that sees the fourth point does not survive.
    fourth = 6 - left - right - third
    across = (_turn(p, left, right, third) > 0.0) != (_turn(p, left, right, fourth) > 0.0)
    a, b = (third, left) if across else (left, right)
    step = 1 if turns > 0 else 3
    first = a if (a + step) % 4 == b else b
    hull_K2 = np.empty((4, 2))
    for i in range(4):
        hull_K2[i] = p[(first + i * step) % 4]
    return hull_K2, True


@compiled
def _turn(p: Float64, i: int, j: int, k: int) -> float:
    """Twice the signed area of the triangle, by the operations of Qhull's `qh_detsimplex`."""
    twice: float = (p[j, 0] - p[i, 0]) * (p[k, 1] - p[i, 1]) - (p[j, 1] - p[i, 1]) * (p[k, 0] - p[i, 0])
    return twice


@compiled
def _hull(points_V2: Float64) -> Any:
    """Corners of the hull (Andrew 1979), without doubles and points on its edges."""
    count = len(points_V2)
    sorted_V2 = np.empty((count, 2))
    for i in range(count):
        x, y = points_V2[i, 0], points_V2[i, 1]
        at = i
        while at > 0 and (sorted_V2[at - 1, 0] > x or (sorted_V2[at - 1, 0] == x and sorted_V2[at - 1, 1] > y)):
            sorted_V2[at] = sorted_V2[at - 1]
            at -= 1
        sorted_V2[at, 0], sorted_V2[at, 1] = x, y
    hull_K2 = np.empty((2 * count + 1, 2))
    size = 0
    for turn in range(2):  # there along one side, back along the other
        floor = max(size, 1)
        for i in range(count):
            at = i if turn == 0 else count - 1 - i
            hull_K2[size] = sorted_V2[at]
            while size > floor and _turn(hull_K2, size - 2, size - 1, size) <= 0.0:
                size -= 1
                hull_K2[size] = sorted_V2[at]
            if size == 0 or hull_K2[size - 1, 0] != hull_K2[size, 0] or hull_K2[size - 1, 1] != hull_K2[size, 1]:
                size += 1
    return hull_K2[: max(size - 1, 1)]
