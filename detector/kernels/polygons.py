"""Compiled loops over packed polygons: areas, convexity, common areas, point in polygon.

Packed polygons: `points_P2` holds the vertices of all N polygons one after the other, `starts_M` (M = N + 1) where each
begins, so polygon i is `points_P2[starts_M[i]:starts_M[i + 1]]`. P points, N polygons. All arrays are C-contiguous,
float64 and int64, so that each loop is compiled once. The plain twins stand in tests/metrics.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit

from detector.types import Float64

F = TypeVar("F", bound=Callable[..., Any])

# What a polygon is to the clipper. OUTSIDE: the polygon stands for a region that only shapely knows.
FLAT, CONVEX, GENERAL, OUTSIDE = 0, 1, 2, 3


def compiled(function: F) -> F:
    """`numba.njit` with its result cached on disk, without the interpreter's lock, the plain function's type kept."""
    loop: F = njit(cache=True, nogil=True)(function)
    return loop


@compiled
def shoelace(points_P2: Float64, first: int, last: int) -> float:
    """Signed area of one polygon, px^2; exact for integer vertices below 2**25."""
    twice = 0.0
    for i in range(first, last):
        j = i + 1 if i + 1 < last else first
        twice += (points_P2[i, 0] + points_P2[j, 0]) * (points_P2[j, 1] - points_P2[i, 1])
    return 0.5 * twice


@compiled
def kind_of(points_P2: Float64, first: int, last: int) -> int:
    """FLAT (all vertices on one line), CONVEX (then simple as well) or GENERAL.

    Convex: all turns to one side, no turning back, and once around, which is two changes of sign in the edges' x (a
    pentagram turns to one side too, but twice around).
    """
    left = right = back = False
    flips = 0
    n = last - first
    e_x = e_y = 0.0  # the previous edge of nonzero length; starts as the last one
    for i in range(n):
        e_x = points_P2[first + (n - i) % n, 0] - points_P2[first + (n - i - 1) % n, 0]
        e_y = points_P2[first + (n - i) % n, 1] - points_P2[first + (n - i - 1) % n, 1]
        if e_x != 0.0 or e_y != 0.0:
            break
    sign = 0.0
    first_sign = 0.0
    for i in range(n):
        j = i + 1 if i + 1 < n else 0
        d_x = points_P2[first + j, 0] - points_P2[first + i, 0]
        d_y = points_P2[first + j, 1] - points_P2[first + i, 1]
        if d_x == 0.0 and d_y == 0.0:
            continue
        turn = e_x * d_y - e_y * d_x
        if turn > 0.0:
            left = True
        elif turn < 0.0:
            right = True
        elif e_x * d_x + e_y * d_y < 0.0:
            back = True
        if d_x != 0.0:
            now = 1.0 if d_x > 0.0 else -1.0
            if sign == 0.0:
                first_sign = now
            elif now != sign:
                flips += 1
            sign = now
        e_x = d_x
        e_y = d_y
    if sign != first_sign:
        flips += 1
    if not left and not right:
        return FLAT
    if (left and right) or back or flips > 2:
        return GENERAL
    return CONVEX


@compiled
def facts(points_P2: Float64, starts_M: Any) -> Any:
    """Signed areas (N), bounding boxes (N, 4) as x0, y0, x1, y1, and kinds (N) of polygons of three or more points."""
    count = len(starts_M) - 1
    area_N = np.zeros(count)
    box_N4 = np.zeros((count, 4))
    kind_N = np.zeros(count, np.int64)
    for k in range(count):
        first, last = starts_M[k], starts_M[k + 1]
        area_N[k] = shoelace(points_P2, first, last)
        kind_N[k] = kind_of(points_P2, first, last)
        box_N4[k, 0] = box_N4[k, 2] = points_P2[first, 0]
        box_N4[k, 1] = box_N4[k, 3] = points_P2[first, 1]
        for i in range(first + 1, last):
            box_N4[k, 0] = min(box_N4[k, 0], points_P2[i, 0])
            box_N4[k, 1] = min(box_N4[k, 1], points_P2[i, 1])
            box_N4[k, 2] = max(box_N4[k, 2], points_P2[i, 0])
            box_N4[k, 3] = max(box_N4[k, 3], points_P2[i, 1])
    return area_N, box_N4, kind_N


@compiled
def clipped_area(
    subject_P2: Float64,
    a0: int,
    a1: int,
    clip_P2: Float64,
    b0: int,
    b1: int,
    side: float,
    work: Float64,
) -> float:
    """Area of the intersection of two convex polygons (Sutherland and Hodgman 1974), px^2.

    Args:
        side: +1.0 where the clip polygon's `shoelace` is positive, else -1.0.
        work: scratch, (2, at least the number of vertices of both, 2).
    """
    n = a1 - a0
    for i in range(n):
        work[0, i, 0] = subject_P2[a0 + i, 0]
        work[0, i, 1] = subject_P2[a0 + i, 1]
    source = 0
    for k in range(b0, b1):
        x, y = clip_P2[k, 0], clip_P2[k, 1]
        following = k + 1 if k + 1 < b1 else b0
        d_x = (clip_P2[following, 0] - x) * side
        d_y = (clip_P2[following, 1] - y) * side
        if d_x == 0.0 and d_y == 0.0:
            continue
        target = 1 - source
        m = 0
        p_x, p_y = work[source, n - 1, 0], work[source, n - 1, 1]
        p_in = d_x * (p_y - y) - d_y * (p_x - x)
        for i in range(n):
            q_x, q_y = work[source, i, 0], work[source, i, 1]
            q_in = d_x * (q_y - y) - d_y * (q_x - x)
            if m + 2 > work.shape[1]:  # rounding made a border cross itself again and again; what is lost has no area
                break
            if (p_in < 0.0 < q_in) or (q_in < 0.0 < p_in):
                t = p_in / (p_in - q_in)
                work[target, m, 0] = p_x + t * (q_x - p_x)
                work[target, m, 1] = p_y + t * (q_y - p_y)
                m += 1
            if q_in >= 0.0:
                work[target, m, 0] = q_x
                work[target, m, 1] = q_y
                m += 1
            p_x, p_y, p_in = q_x, q_y, q_in
        source = target
        n = m
        if n < 3:
            return 0.0
    return abs(shoelace(work[source], 0, n))


@compiled
def contains(points_P2: Float64, first: int, last: int, x: float, y: float) -> bool:
    """Whether the even-odd rule puts (x, y) inside: upper and left borders belong to the polygon, the others do not.

    The comparison is Polygon3's (`poly_c_point_inside`), operation by operation: a centre on a border is common, and
    both variants of CLEval count it as that library does.
    """
    inside = False
    j = last - 1
    for i in range(first, last):
        y_i, y_j = points_P2[i, 1], points_P2[j, 1]
        if (y_i <= y < y_j) or (y_j <= y < y_i):
            x_i = points_P2[i, 0]
            if x < (points_P2[j, 0] - x_i) * (y - y_i) / (y_j - y_i) + x_i:
                inside = not inside
        j = i
    return inside
