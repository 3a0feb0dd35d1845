"""The area that two polygons of any kind have in common, by the even-odd rule: concave and self-crossing ones as well.

The plane is cut in slabs at the y of every vertex and of every crossing of two edges. Within a slab no edges cross, so
they keep one order from left to right, and the region where both parities are odd is a row of trapezoids, each with the
slab's height and its width at the slab's middle.

Shapes: E edges of both polygons; edges that run along a slab bound nothing and are left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import compiled
from detector.types import Float64


@compiled
def common_area(a_points_P2: Float64, a0: int, a1: int, b_points_P2: Float64, b0: int, b1: int) -> float:
    """Area of the intersection of polygons a and b (vertices a0 to a1 and b0 to b1, even-odd rule), px^2."""
    low = max(a_points_P2[a0:a1, 1].min(), b_points_P2[b0:b1, 1].min())
    high = min(a_points_P2[a0:a1, 1].max(), b_points_P2[b0:b1, 1].max())
    right = min(a_points_P2[a0:a1, 0].max(), b_points_P2[b0:b1, 0].max())
    if not low < high:
        return 0.0
    edges_E4 = np.empty((a1 - a0 + b1 - b0, 4))
    side_E = np.zeros(len(edges_E4), np.int64)
    count = _edges(edges_E4, 0, a_points_P2, a0, a1, low, high, right)
    side_E[count:] = 1
    count = _edges(edges_E4, count, b_points_P2, b0, b1, low, high, right)
    order_E = np.argsort(edges_E4[:count, 1], kind="mergesort")
    edges_E4, side_E = edges_E4[order_E], side_E[order_E]
    levels = _levels(edges_E4, low, high)
    active = np.empty(count, np.int64)
    x_of = np.empty(count)
    size = following = 0
    total = 0.0
    for k in range(len(levels) - 1):
        top, bottom = levels[k], levels[k + 1]
        middle = 0.5 * (top + bottom)
        if not top < middle < bottom:
            continue
        kept = 0
        for i in range(size):
            if edges_E4[active[i], 3] > middle:
                active[kept] = active[i]
                kept += 1
        while following < count and edges_E4[following, 1] < middle:
            if edges_E4[following, 3] > middle:
                active[kept] = following
                kept += 1
            following += 1
        size = kept
        total += (bottom - top) * _both(edges_E4, side_E, active, x_of, size, middle)
    return total


@compiled
def _edges(
    edges_E4: Float64, count: int, points_P2: Float64, first: int, last: int, low: float, high: float, right: float
) -> int:
    """Appends a polygon's edges (x, y, x, y, from the top down) that reach between low and high, not beyond right."""
    for i in range(first, last):
        j = i + 1 if i + 1 < last else first
        u, v = (i, j) if points_P2[i, 1] < points_P2[j, 1] else (j, i)
        if points_P2[u, 1] == points_P2[v, 1] or points_P2[v, 1] <= low or points_P2[u, 1] >= high:
            continue
        if points_P2[u, 0] > right and points_P2[v, 0] > right:
            continue
        edges_E4[count, 0], edges_E4[count, 1] = points_P2[u, 0], points_P2[u, 1]
        edges_E4[count, 2], edges_E4[count, 3] = points_P2[v, 0], points_P2[v, 1]
        count += 1
    return count


@compiled
def _levels(edges_E4: Float64, low: float, high: float) -> Any:
    """The y between low and high of all ends and crossings of edges that are sorted by their upper y, ascending."""
    count = len(edges_E4)
    levels = np.empty(4 * count + 2)
    levels[0], levels[1] = low, high
    size = 2
    for i in range(count):
        for y in (edges_E4[i, 1], edges_E4[i, 3]):
            if low < y < high:
                levels[size] = y
                size += 1
    for i in range(count):
        x, y, to_x, to_y = edges_E4[i, 0], edges_E4[i, 1], edges_E4[i, 2], edges_E4[i, 3]
        left_i, right_i = min(x, to_x), max(x, to_x)
        for j in range(i + 1, count):
            if edges_E4[j, 1] >= to_y:
                break
            if min(edges_E4[j, 0], edges_E4[j, 2]) > right_i or max(edges_E4[j, 0], edges_E4[j, 2]) < left_i:
                continue
            at = _crossing(edges_E4, i, j)
            if low < at < high:
                if size == len(levels):
                    longer = np.empty(2 * size)
                    longer[:size] = levels
                    levels = longer
                levels[size] = at
                size += 1
    return np.sort(levels[:size])


@compiled
def _crossing(edges_E4: Float64, i: int, j: int) -> float:
    """The y where two edges cross within both; NaN where they do not."""
    d_x, d_y = edges_E4[i, 2] - edges_E4[i, 0], edges_E4[i, 3] - edges_E4[i, 1]
    e_x, e_y = edges_E4[j, 2] - edges_E4[j, 0], edges_E4[j, 3] - edges_E4[j, 1]
    across = d_x * e_y - d_y * e_x
    if across == 0.0:
        return np.nan
    f_x, f_y = edges_E4[j, 0] - edges_E4[i, 0], edges_E4[j, 1] - edges_E4[i, 1]
    t = (f_x * e_y - f_y * e_x) / across
    s = (f_x * d_y - f_y * d_x) / across
    if t < 0.0 or t > 1.0 or s < 0.0 or s > 1.0:
        return np.nan
    at: float = edges_E4[i, 1] + t * d_y
    return at


@compiled
def _both(edges_E4: Float64, side_E: Any, active: Any, x_of: Float64, size: int, y: float) -> float:
    """Length of the row y inside both polygons; sorts the `size` active edges by their x there."""
    for i in range(size):
        e = active[i]
        t = (y - edges_E4[e, 1]) / (edges_E4[e, 3] - edges_E4[e, 1])
        x = edges_E4[e, 0] + t * (edges_E4[e, 2] - edges_E4[e, 0])
        at = i
        while at > 0 and x_of[at - 1] > x:
            x_of[at] = x_of[at - 1]
            active[at] = active[at - 1]
            at -= 1
        x_of[at] = x
        active[at] = e
    length = 0.0
    inside_a = inside_b = False
    for i in range(size):
        if inside_a and inside_b:
            length += x_of[i] - x_of[i - 1]
        if side_E[active[i]] == 0:
            inside_a = not inside_a
        else:
            inside_b = not inside_b
    return length
