"""Compiled loops for polygons: the outer boundary of a closed path that may cross itself, as clipper's union gives it.

Shapes: R vertices (and edges) of a path, in clipper's integers, (x, y) with y down; B blocks of edges that follow each
other on the path; F vertices of its boundary. Where the path crosses itself, the boundary goes on along the other edge,
from a point with the arithmetic of Clipper 6.4.2 (IntersectPoint, TopX). Clipper sweeps upwards from one vertex's
height to the next and sees a crossing at the first height where the whole x of the two edges have changed their order:
that is asked here too. Paths that touch themselves, or cross where an edge ends at a doubtful height, are left to
clipper.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled
from detector.types import UInt8

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Edge = tuple[int, int, int, int, float]
NEAR = 2  # of clipper's integers
FAR = 1 << 40  # beyond every coordinate


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
def boundary(path_R2: Int64, out_F2: Int64) -> int:
    """The outer boundary of what a closed path goes around to the right, from its topmost, leftmost vertex on.

    Args:
        path_R2: the path.
        out_F2: where the boundary is written; room for 2 R + 8 vertices.

    Returns:
        The number of vertices; 0 where clipper's rounding would decide.
    """
    count = len(path_R2)
    if count < 3:
        return 0
    first = 0
    for v in range(1, count):
        if path_R2[v, 1] < path_R2[first, 1] or (
            path_R2[v, 1] == path_R2[first, 1] and path_R2[v, 0] < path_R2[first, 0]
        ):
            first = v
    boxes_4R, blocks_4B, length = _boxes(path_R2)
    near_R, reach_R = np.empty(count + 1, dtype=np.int64), np.empty(count + 1, dtype=np.int64)
    reach_4R, meets_R = np.empty((4, count + 1), dtype=np.int32), np.empty(count + 1, dtype=np.uint8)
    held, held_size = -1, 0
    out_F2[0, 0], out_F2[0, 1] = path_R2[first, 0], path_R2[first, 1]
    size, edge, share, origin, crossed = 1, first, 0.0, -1, False
    while size < 2 * count + 8:
        if edge // length != held:  # the walk mostly stays in a block
            held = edge // length
            held_size = _in_reach(boxes_4R, blocks_4B, length, held, reach_R, reach_4R)
        found = _meeting_boxes(boxes_4R, edge, reach_R[:held_size], reach_4R, meets_R, near_R)
        crossing, back = _next_crossing(path_R2, near_R[:found], edge, share, origin)
        if crossing == -2:
            return 0
        if crossing < 0:
            edge, share, origin = (edge + 1 if edge + 1 < count else 0), 0.0, -1
            if edge == first:
                return 0 if crossed and _too_near(out_F2, size - 1, 0) else drop_collinear(out_F2, size)
            out_F2[size, 0], out_F2[size, 1] = path_R2[edge, 0], path_R2[edge, 1]
        else:
            sure, out_F2[size, 0], out_F2[size, 1] = _meeting(path_R2, edge, crossing)
            if not sure:
                return 0
            edge, share, origin = crossing, back, edge
        if (origin >= 0 or crossed) and _too_near(out_F2, size - 1, size):
            return 0
        crossed = origin >= 0
        size += 1
    return 0


@compiled
def _too_near(out_F2: Int64, one: int, two: int) -> bool:
    """Whether two vertices stand at one height so close that clipper may round them apart, or together."""
    return bool((out_F2[one, 1] == out_F2[two, 1]) & (abs(out_F2[one, 0] - out_F2[two, 0]) <= NEAR))


@compiled
def _boxes(path_R2: Int64) -> tuple[Int32, Int32, int]:
    """The upright box (left, top, right, bottom) of each edge and of each block of edges, and how many make a block.

    A path does not wander about: the edges near one edge lie in few blocks, so with blocks of 2 sqrt(R) edges the cost
    of a word grows with R sqrt(R) at most.
    """
    count = len(path_R2)
    length = int(2.0 * np.sqrt(count))
    boxes_4R = np.empty((4, count), dtype=np.int32)
    for v in range(count):
        u = v + 1 if v + 1 < count else 0
        boxes_4R[0, v], boxes_4R[2, v] = min(path_R2[v, 0], path_R2[u, 0]), max(path_R2[v, 0], path_R2[u, 0])
        boxes_4R[1, v], boxes_4R[3, v] = min(path_R2[v, 1], path_R2[u, 1]), max(path_R2[v, 1], path_R2[u, 1])
    blocks_4B = np.empty((4, (count + length - 1) // length), dtype=np.int32)
    for b in range(blocks_4B.shape[1]):
        low, high = b * length, min((b + 1) * length, count)
        left, top, right, bottom = boxes_4R[0, low], boxes_4R[1, low], boxes_4R[2, low], boxes_4R[3, low]
        for v in range(low + 1, high):
            left, top = min(left, boxes_4R[0, v]), min(top, boxes_4R[1, v])
            right, bottom = max(right, boxes_4R[2, v]), max(bottom, boxes_4R[3, v])
        blocks_4B[0, b], blocks_4B[1, b], blocks_4B[2, b], blocks_4B[3, b] = left, top, right, bottom
    return boxes_4R, blocks_4B, length


@compiled
def _in_reach(boxes_4R: Int32, blocks_4B: Int32, length: int, block: int, reach_R: Int64, reach_4R: Int32) -> int:
    """Writes the edges whose boxes meet that of a block to `reach_R`, their boxes to `reach_4R`; returns how many."""
    left, top, right, bottom = blocks_4B[0, block], blocks_4B[1, block], blocks_4B[2, block], blocks_4B[3, block]
    size = 0
    for b in range(blocks_4B.shape[1]):
        if (blocks_4B[0, b] > right) | (blocks_4B[1, b] > bottom) | (blocks_4B[2, b] < left) | (blocks_4B[3, b] < top):
            continue
        for v in range(b * length, min((b + 1) * length, boxes_4R.shape[1])):
            reach_R[size] = v  # written in any case: a branch would be guessed wrong too often
            reach_4R[0, size], reach_4R[1, size] = boxes_4R[0, v], boxes_4R[1, v]
            reach_4R[2, size], reach_4R[3, size] = boxes_4R[2, v], boxes_4R[3, v]
            size += (
                (boxes_4R[0, v] <= right)
                & (boxes_4R[1, v] <= bottom)
                & (boxes_4R[2, v] >= left)
                & (boxes_4R[3, v] >= top)
            )
    return size


@compiled
def _meeting_boxes(boxes_4R: Int32, edge: int, reach_K: Int64, reach_4R: Int32, meets_R: UInt8, near_R: Int64) -> int:
    """Writes the edges of `reach_K` whose boxes meet that of `edge` to `near_R`; returns how many.

    Compared first, gathered then: the first loop is one of vectors.
    """
    left, top, right, bottom = boxes_4R[0, edge], boxes_4R[1, edge], boxes_4R[2, edge], boxes_4R[3, edge]
    left_R, top_R, right_R, bottom_R = reach_4R[0], reach_4R[1], reach_4R[2], reach_4R[3]
    for k in range(len(reach_K)):
        meets_R[k] = (left_R[k] <= right) & (top_R[k] <= bottom) & (right_R[k] >= left) & (bottom_R[k] >= top)
    size = 0
    for k in range(len(reach_K)):
        near_R[size] = reach_K[k]  # written in any case, as above
        size += meets_R[k]
    return size


@compiled
def _next_crossing(path_R2: Int64, near_K: Int64, edge: int, share: float, origin: int) -> tuple[int, float]:
    """The edge of `near_K` that crosses `edge` first beyond `share` of it, and how far along the other that is.

    -1: none crosses; -2: one touches, or two cross at almost the same place. Neighbours do not count, nor `origin`,
    which crosses at `share` itself.
    """
    count = len(path_R2)
    before, after = edge - 1 if edge > 0 else count - 1, edge + 1 if edge + 1 < count else 0
    ax, ay = path_R2[edge, 0], path_R2[edge, 1]
    dx, dy = path_R2[after, 0] - ax, path_R2[after, 1] - ay
    found, nearest, second, back = -1, 2.0, 2.0, 0.0
    for k in range(len(near_K)):
        other = near_K[k]
        if (other == edge) | (other == before) | (other == after) | (other == origin):
            continue
        until = other + 1 if other + 1 < count else 0
        cx, cy = path_R2[other, 0] - ax, path_R2[other, 1] - ay
        ex, ey = path_R2[until, 0] - ax, path_R2[until, 1] - ay
        # On which side of one edge the other one's ends lie: the sign.
        side_c, side_e = dx * cy - dy * cx, dx * ey - dy * ex
        if ((side_c > 0) & (side_e > 0)) | ((side_c < 0) & (side_e < 0)):
            continue
        side_a = (ey - cy) * cx - (ex - cx) * cy
        side_b = (ex - cx) * (dy - cy) - (ey - cy) * (dx - cx)
        if ((side_a > 0) & (side_b > 0)) | ((side_a < 0) & (side_b < 0)):
            continue
        at = side_a / float(side_a - side_b) if side_a != side_b else share
        if side_c == 0 or side_e == 0 or side_a == 0 or side_b == 0 or at == share:
            return -2, 0.0
        if share < at < nearest:
            second = nearest
            found, nearest, back = other, at, side_c / float(side_c - side_e)
        elif share < at < second:
            second = at
    if found < 0:
        return -1, 0.0
    # Three edges that cross within a unit or two: which crossing comes first is a matter of clipper's rounding.
    gap = min(second - nearest, nearest - share if origin >= 0 else 2.0)
    return (-2, 0.0) if gap * max(abs(dx), abs(dy)) < NEAR else (found, back)


@compiled
def _meeting(path_R2: Int64, one: int, two: int) -> tuple[bool, int, int]:
    """Whether clipper sees two edges cross where they do, and where that is for it (Clipper::IntersectPoint)."""
    count = len(path_R2)
    a, b = (
        _edge(path_R2, one, one + 1 if one + 1 < count else 0),
        _edge(path_R2, two, two + 1 if two + 1 < count else 0),
    )
    bot_x, bot_y, top_x, top_y, slope = a
    bot_u, bot_v, top_u, top_v, tilt = b
    if bot_y == top_y:  # a horizontal edge is met where the other one is at its height
        return True, _x_at(b, bot_y), bot_y
    if bot_v == top_v:
        return True, _x_at(a, bot_v), bot_v
    if slope > tilt:  # clipper's first edge is the one on the left below the crossing, where y is larger
        a, b = b, a
        bot_x, bot_y, top_x, top_y, slope = a
        bot_u, bot_v, top_u, top_v, tilt = b
    if bot_x == top_x:
        x, y = bot_x, bot_x / tilt + (bot_v - bot_u / tilt)
    elif bot_u == top_u:
        x, y = bot_u, bot_u / slope + (bot_y - bot_x / slope)
    else:
        b1, b2 = bot_x - bot_y * slope, bot_u - bot_v * tilt
        y = (b2 - b1) / (slope - tilt)
        x = rounded(slope * y + b1) if abs(slope) < abs(tilt) else rounded(tilt * y + b2)
    met_y = rounded(y)
    above, below = _heights(path_R2, y)
    apart, crossed = _x_at(b, below) - _x_at(a, below), _x_at(a, above) - _x_at(b, above)
    if apart < 0 or (apart == 0 and (bot_y == below or bot_v == below)):
        return False, 0, 0
    if crossed < 0 or not above <= met_y <= below:
        return False, 0, 0
    if crossed > 0:
        return True, x, met_y
    # Not seen yet at this height, but at the next one if both edges reach it; clipper then puts the point back here.
    following = _heights(path_R2, above - 0.5)[0]
    if top_y == above or top_v == above or _x_at(a, following) <= _x_at(b, following):
        return False, 0, 0
    if met_y > above:
        x = _x_at(a if abs(slope) <= abs(tilt) else b, above)
    return True, x, above


@compiled
def _heights(path_R2: Int64, y: float) -> tuple[int, int]:
    """The vertices' heights next to y: clipper's sweep stops there. Above it (or at it) and below it."""
    above, below = -FAR, FAR
    for v in range(len(path_R2)):
        height = int(path_R2[v, 1])
        above = max(above, height if height <= y else -FAR)
        below = min(below, height if height > y else FAR)
    return above, below


@compiled
def _x_at(edge: Edge, y: int) -> int:
    """The whole x of an edge at a height (Clipper's TopX)."""
    bot_x, bot_y, top_x, top_y, slope = edge
    return top_x if y == top_y else bot_x + rounded(slope * (y - bot_y))


@compiled
def _edge(path_R2: Int64, a: int, b: int) -> Edge:
    """Lower end (x, y), upper end (x, y) and dx/dy of an edge between two vertices; y points down."""
    if path_R2[a, 1] < path_R2[b, 1]:
        a, b = b, a
    rise = float(path_R2[b, 1] - path_R2[a, 1])
    slope = float(path_R2[b, 0] - path_R2[a, 0]) / rise if rise != 0.0 else 0.0
    return path_R2[a, 0], path_R2[a, 1], path_R2[b, 0], path_R2[b, 1], slope
