"""Compiled loops for polygons: the outer boundary of a closed path that may cross itself, as clipper's union gives it.

Shapes: R vertices (and edges) of a path, in clipper's integers, (x, y) with y down; F vertices of its boundary. Where
the path crosses itself, the boundary goes on along the other edge, from a point with the arithmetic of Clipper 6.4.2
(IntersectPoint). Paths that touch themselves, or cross where clipper's rounding decides, are left to clipper: 9 % of
words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled

Int64 = NDArray[np.int64]
NEAR = 1.5  # of clipper's integers


@compiled
def rounded(value: float) -> int:
    return int(value - 0.5) if value < 0 else int(value + 0.5)


@compiled
def drop_collinear(path_R2: Int64, size: int) -> int:
    """Repeated vertices and those on a line with their neighbours go, as in clipper; returns how many stay."""
    changed = True
    while changed and size > 2:
        changed = False
        kept = 0
        for i in range(size):
            before = kept - 1 if kept > 0 else size - 1
            after = i + 1 if i + 1 < size else 0
            ax, ay = path_R2[i, 0] - path_R2[before, 0], path_R2[i, 1] - path_R2[before, 1]
            bx, by = path_R2[after, 0] - path_R2[i, 0], path_R2[after, 1] - path_R2[i, 1]
            if ax * by == ay * bx:
                changed = True
                continue
            path_R2[kept, 0], path_R2[kept, 1] = path_R2[i, 0], path_R2[i, 1]
            kept += 1
        size = kept
    return size


@compiled
def boundary(path_R2: Int64) -> Int64:
    """The outer boundary of what a closed path goes around to the right, from its topmost, leftmost vertex on.

    Empty where the path touches itself, so that clipper's rounding would decide.
    """
    count = len(path_R2)
    out_F2 = np.empty((2 * count + 8, 2), dtype=np.int64)
    if count < 3:
        return out_F2[:0]
    first = 0
    for v in range(1, count):
        if path_R2[v, 1] < path_R2[first, 1] or (
            path_R2[v, 1] == path_R2[first, 1] and path_R2[v, 0] < path_R2[first, 0]
        ):
            first = v
    out_F2[0] = path_R2[first]
    heads_R, rows_K3 = _crossings(path_R2)
    size, edge, share, origin = 1, first, 0.0, -1
    while True:
        if size >= len(out_F2) - 1:
            return out_F2[:0]
        crossing, back = _next_crossing(path_R2, heads_R, rows_K3, edge, share, origin)
        if crossing == -2:
            return out_F2[:0]
        if crossing < 0:
            edge, share, origin = (edge + 1 if edge + 1 < count else 0), 0.0, -1
            if edge == first:
                break
            out_F2[size, 0], out_F2[size, 1] = path_R2[edge, 0], path_R2[edge, 1]
        else:
            out_F2[size] = _meeting(path_R2, edge, crossing)
            if _is_delicate(path_R2, edge, crossing, out_F2[size]):
                return out_F2[:0]
            edge, share, origin = crossing, back, edge
        size += 1
    return out_F2[: drop_collinear(out_F2, size)]


@compiled
def _crossings(path_R2: Int64) -> tuple[Int64, Int64]:
    """Which edges cross or touch; neighbours do not count.

    Edges are put in order along the path's longer side, and each is held only against those that begin before it ends:
    the cost of a word grows with its edges and not with their square.

    Returns:
        Each edge's first row of the second array (R), -1 where nothing meets it; rows (K, 3) of the next row or -1,
        the other edge, and 1 where the two touch, else 0.
    """
    count = len(path_R2)
    edges_R, columns_R2, boxes_R4 = _in_order(path_R2)
    heads_R = np.full(count, -1, dtype=np.int64)
    rows_K3 = np.empty((4 * count, 3), dtype=np.int64)
    size = 0
    for i in range(count):
        one, last = edges_R[i], columns_R2[i, 1]
        left, top, right, bottom = boxes_R4[i, 0], boxes_R4[i, 1], boxes_R4[i, 2], boxes_R4[i, 3]
        for j in range(i + 1, count):
            if columns_R2[j, 0] > last:
                break
            if (boxes_R4[j, 1] > bottom) | (boxes_R4[j, 3] < top) | (boxes_R4[j, 0] > right) | (boxes_R4[j, 2] < left):
                continue
            two = edges_R[j]
            if abs(one - two) == 1 or abs(one - two) == count - 1:
                continue
            meets = _meets(path_R2, one, two)
            if meets == 0:
                continue
            if size + 2 > len(rows_K3):
                rows_K3 = np.concatenate((rows_K3, rows_K3))
            rows_K3[size, 0], rows_K3[size, 1], rows_K3[size, 2] = heads_R[one], two, meets - 1
            rows_K3[size + 1, 0], rows_K3[size + 1, 1], rows_K3[size + 1, 2] = heads_R[two], one, meets - 1
            heads_R[one], heads_R[two] = size, size + 1
            size += 2
    return heads_R, rows_K3


@compiled
def _in_order(path_R2: Int64) -> tuple[Int64, Int64, Int64]:
    """Edges by where they begin along the path's longer side, which is cut into columns.

    Returns:
        The edges in this order (R); the first and the last column of each (R, 2); the box of each (R, 4): left, top,
        right, bottom.
    """
    count = len(path_R2)
    low_x = high_x = path_R2[0, 0]
    low_y = high_y = path_R2[0, 1]
    for v in range(1, count):
        low_x, high_x = min(low_x, path_R2[v, 0]), max(high_x, path_R2[v, 0])
        low_y, high_y = min(low_y, path_R2[v, 1]), max(high_y, path_R2[v, 1])
    axis, low, extent = (0, low_x, high_x - low_x) if high_x - low_x >= high_y - low_y else (1, low_y, high_y - low_y)
    shift = 0
    while extent >> shift >= 2 * count:
        shift += 1
    starts_C = np.zeros((extent >> shift) + 2, dtype=np.int64)  # where each column's edges start
    for v in range(count):
        u = v + 1 if v + 1 < count else 0
        starts_C[((min(path_R2[v, axis], path_R2[u, axis]) - low) >> shift) + 1] += 1
    for column in range(1, len(starts_C)):
        starts_C[column] += starts_C[column - 1]
    edges_R, columns_R2 = np.empty(count, dtype=np.int64), np.empty((count, 2), dtype=np.int64)
    boxes_R4 = np.empty((count, 4), dtype=np.int64)
    for v in range(count):
        u = v + 1 if v + 1 < count else 0
        column = (min(path_R2[v, axis], path_R2[u, axis]) - low) >> shift
        at = starts_C[column]
        starts_C[column] += 1
        edges_R[at] = v
        columns_R2[at, 0], columns_R2[at, 1] = column, (max(path_R2[v, axis], path_R2[u, axis]) - low) >> shift
        boxes_R4[at, 0], boxes_R4[at, 1] = min(path_R2[v, 0], path_R2[u, 0]), min(path_R2[v, 1], path_R2[u, 1])
        boxes_R4[at, 2], boxes_R4[at, 3] = max(path_R2[v, 0], path_R2[u, 0]), max(path_R2[v, 1], path_R2[u, 1])
    return edges_R, columns_R2, boxes_R4


@compiled
def _sides(path_R2: Int64, one: int, two: int) -> tuple[int, int, int, int]:
    """On which side of edge `one` the ends of `two` lie, and on which of `two` those of `one`: signs; 0 on its line."""
    count = len(path_R2)
    to, until = one + 1 if one + 1 < count else 0, two + 1 if two + 1 < count else 0
    ax, ay, bx, by = path_R2[one, 0], path_R2[one, 1], path_R2[to, 0], path_R2[to, 1]
    cx, cy, ex, ey = path_R2[two, 0], path_R2[two, 1], path_R2[until, 0], path_R2[until, 1]
    side_c = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    side_e = (bx - ax) * (ey - ay) - (by - ay) * (ex - ax)
    side_a = (ex - cx) * (ay - cy) - (ey - cy) * (ax - cx)
    side_b = (ex - cx) * (by - cy) - (ey - cy) * (bx - cx)
    return side_c, side_e, side_a, side_b


@compiled
def _meets(path_R2: Int64, one: int, two: int) -> int:
    """0 where two edges keep apart, 1 where they cross, 2 where they touch: an end of one lies on the other."""
    side_c, side_e, side_a, side_b = _sides(path_R2, one, two)
    if (side_c > 0 and side_e > 0) or (side_c < 0 and side_e < 0):
        return 0
    if (side_a > 0 and side_b > 0) or (side_a < 0 and side_b < 0):
        return 0
    return 2 if side_c == 0 or side_e == 0 or side_a == 0 or side_b == 0 else 1


@compiled
def _next_crossing(
    path_R2: Int64, heads_R: Int64, rows_K3: Int64, edge: int, share: float, origin: int
) -> tuple[int, float]:
    """The edge that crosses `edge` first beyond `share` of it, and how far along that is; -1: none; -2: they touch.

    `origin` crosses at `share` itself and is not asked. `heads_R` and `rows_K3` are those of `_crossings`.
    """
    found, nearest, back, tied = -1, 2.0, 0.0, False
    row = heads_R[edge]
    while row >= 0:
        other, touches = rows_K3[row, 1], rows_K3[row, 2]
        row = rows_K3[row, 0]
        if other == origin:
            continue
        if touches:
            return -2, 0.0
        side_c, side_e, side_a, side_b = _sides(path_R2, edge, other)
        at = side_a / float(side_a - side_b)
        if at == share:
            return -2, 0.0
        if share < at <= nearest:
            tied = at == nearest
            found, nearest, back = other, at, side_c / float(side_c - side_e)
    return (-2, 0.0) if tied else (found, back)


@compiled
def _meeting(path_R2: Int64, one: int, two: int) -> Int64:
    """Where two edges cross, with the arithmetic and rounding of Clipper::IntersectPoint."""
    count = len(path_R2)
    met_2 = np.empty(2, dtype=np.int64)
    bot_x, bot_y, top_x, top_y, slope = _edge(path_R2[one], path_R2[one + 1 if one + 1 < count else 0])
    bot_u, bot_v, top_u, top_v, tilt = _edge(path_R2[two], path_R2[two + 1 if two + 1 < count else 0])
    if bot_y == top_y or bot_v == top_v:  # a horizontal edge is met where the other one is at its height
        if bot_y == top_y:
            bot_x, bot_v, bot_y, bot_u, slope = bot_u, bot_y, bot_v, bot_x, tilt
        met_2[0], met_2[1] = bot_x + rounded(slope * (bot_v - bot_y)), bot_v
    elif bot_x == top_x:
        met_2[0], met_2[1] = bot_x, rounded(bot_x / tilt + (bot_v - bot_u / tilt))
    elif bot_u == top_u:
        met_2[0], met_2[1] = bot_u, rounded(bot_u / slope + (bot_y - bot_x / slope))
    else:
        b1, b2 = bot_x - bot_y * slope, bot_u - bot_v * tilt
        q = (b2 - b1) / (slope - tilt)
        met_2[0] = rounded(slope * q + b1) if abs(slope) < abs(tilt) else rounded(tilt * q + b2)
        met_2[1] = rounded(q)
    return met_2


@compiled
def _is_delicate(path_R2: Int64, one: int, two: int, met_2: Int64) -> bool:
    """Whether clipper may see a crossing in another place.

    It sweeps from one vertex's height to the next and compares edges there at whole x: where two that cross are less
    than `NEAR` apart at such a height, their order may be the wrong one.
    """
    count = len(path_R2)
    _, bot_y, _, top_y, slope = _edge(path_R2[one], path_R2[one + 1 if one + 1 < count else 0])
    _, bot_v, _, top_v, tilt = _edge(path_R2[two], path_R2[two + 1 if two + 1 < count else 0])
    if bot_y == top_y or bot_v == top_v:
        return False
    low, high, apart = max(top_y, top_v), min(bot_y, bot_v), abs(slope - tilt)
    for v in range(count):
        y = path_R2[v, 1]
        if low <= y <= high and abs(y - met_2[1]) * apart < NEAR:
            return True
    return False


@compiled
def _edge(a_2: Int64, b_2: Int64) -> tuple[int, int, int, int, float]:
    """Lower end, upper end and dx/dy of an edge; y points down."""
    if a_2[1] < b_2[1]:
        a_2, b_2 = b_2, a_2
    rise = float(b_2[1] - a_2[1])
    return a_2[0], a_2[1], b_2[0], b_2[1], (float(b_2[0] - a_2[0]) / rise if rise != 0.0 else 0.0)
