"""Compiled loops for polygons: outlines moved outwards as clipper does it.

Packed as in `kernels.postprocess`: N contours, all their vertices one after another, `ends_N` where each ends. An
offset is worked out in clipper's integers with its own arithmetic (Clipper 6.4.2: ClipperOffset::OffsetPoint, DoRound,
DoMiter, DoSquare; IntersectPoint), so the vertices are pyclipper's. Clipper then takes the union of the raw path; here
its outer boundary is walked instead: where the path crosses itself, the boundary goes on along the other edge. Paths
that touch themselves, or cross where clipper's rounding decides, are left to clipper: 6 % of words.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled
from detector.types import Float64

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
ROUND, MITRE = 0, 1
NEAR = 1.5  # of clipper's integers


@compiled
def offset_outlines(
    points_P2: Int32, ends_N: Int64, distance_N: Float64, scale: int, arc: float, join: int
) -> tuple[Int64, Int64]:
    """Outlines of pixels moved out by `distance_N` px: clipper's largest piece in integers, `scale` of them a px.

    Args:
        points_P2: pixels (column, row), packed; an outline runs through their centres.
        ends_N: where each outline ends.
        distance_N: px.
        scale: clipper's integers per px; even.
        arc: how far round joins may keep off the circle, in clipper's integers.
        join: ROUND or MITRE (limit 2).

    Returns:
        The vertices (Q, 2), packed, clockwise as seen, from the topmost, leftmost on; where each outline ends (N), two
        equal ends where it is left to clipper.
    """
    result_Q2 = np.empty((1024 + 16 * len(points_P2), 2), dtype=np.int64)
    result_N = np.zeros(len(ends_N), dtype=np.int64)
    size = start = 0
    for n in range(len(ends_N)):
        outline_V2 = points_P2[start : ends_N[n]].astype(np.int64) * scale + scale // 2
        start = ends_N[n]
        if len(outline_V2) >= 3 and distance_N[n] * scale >= 1.0:
            raw_R2 = _raw_path(_rightwards(outline_V2), distance_N[n] * scale, arc, join)
            found_F2 = _boundary(raw_R2)
            if size + len(found_F2) > len(result_Q2):
                larger_Q2 = np.empty((2 * (size + len(found_F2)), 2), dtype=np.int64)
                larger_Q2[:size] = result_Q2[:size]
                result_Q2 = larger_Q2
            result_Q2[size : size + len(found_F2)] = found_F2
            size += len(found_F2)
        result_N[n] = size
    return result_Q2[:size], result_N


@compiled
def _rightwards(outline_V2: Int64) -> Int64:
    """The outline with a positive shoelace sum, as clipper turns it."""
    doubled = np.int64(0)
    for v in range(len(outline_V2)):
        u = v + 1 if v + 1 < len(outline_V2) else 0
        doubled += outline_V2[v, 0] * outline_V2[u, 1] - outline_V2[u, 0] * outline_V2[v, 1]
    return outline_V2 if doubled >= 0 else outline_V2[::-1].copy()


@compiled
def _rounded(value: float) -> int:
    return int(value - 0.5) if value < 0 else int(value + 0.5)


@compiled
def _raw_path(outline_V2: Int64, delta: float, arc: float, join: int) -> Int64:
    """Each edge moved out, with a join at each vertex: crosses itself where the outline is concave."""
    count = len(outline_V2)
    tolerance = min(arc, delta * 0.25)
    steps = min(np.pi / np.arccos(1.0 - tolerance / delta), delta * np.pi)
    sine, cosine, per_radian = np.sin(2.0 * np.pi / steps), np.cos(2.0 * np.pi / steps), steps / (2.0 * np.pi)
    normal_V2 = np.empty((count, 2))
    for v in range(count):
        u = v + 1 if v + 1 < count else 0
        dx, dy = float(outline_V2[u, 0] - outline_V2[v, 0]), float(outline_V2[u, 1] - outline_V2[v, 1])
        scale = 1.0 / np.sqrt(dx * dx + dy * dy)
        normal_V2[v, 0], normal_V2[v, 1] = dy * scale, -(dx * scale)
    path_R2 = np.empty((count * (int(steps) + 6) + 8, 2), dtype=np.int64)
    size = 0
    k = count - 1
    for j in range(count):
        x, y = float(outline_V2[j, 0]), float(outline_V2[j, 1])
        before_x, before_y, after_x, after_y = normal_V2[k, 0], normal_V2[k, 1], normal_V2[j, 0], normal_V2[j, 1]
        turn = before_x * after_y - after_x * before_y
        ahead = before_x * after_x + after_y * before_y
        if abs(turn * delta) < 1.0:
            if ahead > 0:  # straight on; clipper keeps the earlier normal here
                path_R2[size, 0], path_R2[size, 1] = _rounded(x + before_x * delta), _rounded(y + before_y * delta)
                size += 1
                continue
        else:
            turn = min(max(turn, -1.0), 1.0)
        if turn * delta < 0:
            path_R2[size, 0], path_R2[size, 1] = _rounded(x + before_x * delta), _rounded(y + before_y * delta)
            path_R2[size + 1] = outline_V2[j]
            size += 2
        elif join == ROUND:
            angle = np.arctan2(turn, ahead)
            at_x, at_y = before_x, before_y
            for _ in range(max(_rounded(per_radian * abs(angle)), 1)):
                path_R2[size, 0], path_R2[size, 1] = _rounded(x + at_x * delta), _rounded(y + at_y * delta)
                size += 1
                at_x, at_y = at_x * cosine - sine * at_y, at_x * sine + at_y * cosine
        elif 1.0 + ahead >= 0.5:
            share = delta / (1.0 + ahead)
            path_R2[size, 0] = _rounded(x + (before_x + after_x) * share)
            path_R2[size, 1] = _rounded(y + (before_y + after_y) * share)
            size += 1
            k = j
            continue
        else:
            slope = np.tan(np.arctan2(turn, ahead) / 4.0)
            path_R2[size, 0] = _rounded(x + delta * (before_x - before_y * slope))
            path_R2[size, 1] = _rounded(y + delta * (before_y + before_x * slope))
            path_R2[size + 1, 0] = _rounded(x + delta * (after_x + after_y * slope))
            path_R2[size + 1, 1] = _rounded(y + delta * (after_y - after_x * slope))
            size += 2
            k = j
            continue
        path_R2[size, 0], path_R2[size, 1] = _rounded(x + after_x * delta), _rounded(y + after_y * delta)
        size += 1
        k = j
    return path_R2[: _drop_collinear(path_R2, size)]


@compiled
def _drop_collinear(path_R2: Int64, size: int) -> int:
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
            path_R2[kept] = path_R2[i]
            kept += 1
        size = kept
    return size


@compiled
def _boundary(path_R2: Int64) -> Int64:
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
    size, edge, share, origin = 1, first, 0.0, -1
    while True:
        if size >= len(out_F2) - 1:
            return out_F2[:0]
        crossing, back = _next_crossing(path_R2, edge, share, origin)
        if crossing == -2:
            return out_F2[:0]
        if crossing < 0:
            edge, share, origin = (edge + 1 if edge + 1 < count else 0), 0.0, -1
            if edge == first:
                break
            out_F2[size] = path_R2[edge]
        else:
            out_F2[size] = _meeting(path_R2, edge, crossing)
            if _is_delicate(path_R2, edge, crossing, out_F2[size]):
                return out_F2[:0]
            edge, share, origin = crossing, back, edge
        size += 1
    return out_F2[: _drop_collinear(out_F2, size)]


@compiled
def _next_crossing(path_R2: Int64, edge: int, share: float, origin: int) -> tuple[int, float]:
    """The edge that crosses `edge` first beyond `share` of it, and how far along that is; -1: none; -2: they touch.

    `origin` crosses at `share` itself and is not asked.
    """
    count = len(path_R2)
    to = edge + 1 if edge + 1 < count else 0
    ax, ay, bx, by = path_R2[edge, 0], path_R2[edge, 1], path_R2[to, 0], path_R2[to, 1]
    dx, dy = bx - ax, by - ay
    left, right, top, bottom = min(ax, bx), max(ax, bx), min(ay, by), max(ay, by)
    found, nearest, back = -1, 2.0, 0.0
    for other in range(count):
        until = other + 1 if other + 1 < count else 0
        cx, cy, ex, ey = path_R2[other, 0], path_R2[other, 1], path_R2[until, 0], path_R2[until, 1]
        if max(cy, ey) < top or min(cy, ey) > bottom or max(cx, ex) < left or min(cx, ex) > right:
            continue
        if other in (edge, to, origin) or until == edge:
            continue
        side_c, side_e = dx * (cy - ay) - dy * (cx - ax), dx * (ey - ay) - dy * (ex - ax)
        side_a = (ex - cx) * (ay - cy) - (ey - cy) * (ax - cx)
        side_b = (ex - cx) * (by - cy) - (ey - cy) * (bx - cx)
        if (side_c > 0 and side_e > 0) or (side_c < 0 and side_e < 0):
            continue
        if (side_a > 0 and side_b > 0) or (side_a < 0 and side_b < 0):
            continue
        if side_c == 0 or side_e == 0 or side_a == 0 or side_b == 0:
            return -2, 0.0
        at = side_a / float(side_a - side_b)
        if at == share:
            return -2, 0.0
        if at > share and at == nearest:
            return -2, 0.0
        if share < at < nearest:
            found, nearest, back = other, at, side_c / float(side_c - side_e)
    return found, back


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
        met_2[0], met_2[1] = bot_x + _rounded(slope * (bot_v - bot_y)), bot_v
    elif bot_x == top_x:
        met_2[0], met_2[1] = bot_x, _rounded(bot_x / tilt + (bot_v - bot_u / tilt))
    elif bot_u == top_u:
        met_2[0], met_2[1] = bot_u, _rounded(bot_u / slope + (bot_y - bot_x / slope))
    else:
        b1, b2 = bot_x - bot_y * slope, bot_u - bot_v * tilt
        q = (b2 - b1) / (slope - tilt)
        met_2[0] = _rounded(slope * q + b1) if abs(slope) < abs(tilt) else _rounded(tilt * q + b2)
        met_2[1] = _rounded(q)
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
