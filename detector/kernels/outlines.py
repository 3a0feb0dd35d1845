"""Compiled loops for polygons: outlines moved outwards as clipper does it.

Packed as in `kernels.postprocess`: N contours, all their vertices one after another, `ends_N` where each ends. An
offset is worked out in clipper's integers with its own arithmetic (Clipper 6.4.2: ClipperOffset::OffsetPoint, DoRound,
DoMiter, DoSquare), so the vertices are pyclipper's. Clipper then takes the union of the raw path; here its outer
boundary is walked instead (`kernels.boundaries`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.boundaries import boundary, drop_collinear, rounded
from detector.kernels.polygons import compiled
from detector.types import Float64

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
ROUND, MITRE = 0, 1


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
            if _doubled_area(outline_V2) < 0:  # as clipper turns it
                outline_V2 = outline_V2[::-1].copy()
            raw_R2 = _raw_path(outline_V2, distance_N[n] * scale, arc, join)
            room = size + 2 * len(raw_R2) + 8
            if room > len(result_Q2):
                larger_Q2 = np.empty((2 * room, 2), dtype=np.int64)
                larger_Q2[:size] = result_Q2[:size]
                result_Q2 = larger_Q2
            found = boundary(raw_R2, result_Q2[size:])
            # An outline moved out holds itself: anything smaller is a loop of the path.
            if _doubled_area(result_Q2[size : size + found]) > _doubled_area(outline_V2):
                size += found
        result_N[n] = size
    return result_Q2[:size], result_N


@compiled
def _doubled_area(outline_V2: Int64) -> np.int64:
    """Twice the signed area: positive for a clockwise outline, as seen with y down."""
    doubled = np.int64(0)
    for v in range(len(outline_V2)):
        u = v + 1 if v + 1 < len(outline_V2) else 0
        doubled += outline_V2[v, 0] * outline_V2[u, 1] - outline_V2[u, 0] * outline_V2[v, 1]
    return doubled


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
                path_R2[size, 0], path_R2[size, 1] = rounded(x + before_x * delta), rounded(y + before_y * delta)
                size += 1
                continue
        else:
            turn = min(max(turn, -1.0), 1.0)
        if turn * delta < 0:
            path_R2[size, 0], path_R2[size, 1] = rounded(x + before_x * delta), rounded(y + before_y * delta)
            path_R2[size + 1, 0], path_R2[size + 1, 1] = outline_V2[j, 0], outline_V2[j, 1]
            size += 2
        elif join == ROUND:
            angle = np.arctan2(turn, ahead)
            at_x, at_y = before_x, before_y
            for _ in range(max(rounded(per_radian * abs(angle)), 1)):
                path_R2[size, 0], path_R2[size, 1] = rounded(x + at_x * delta), rounded(y + at_y * delta)
                size += 1
                at_x, at_y = at_x * cosine - sine * at_y, at_x * sine + at_y * cosine
        elif 1.0 + ahead >= 0.5:
            share = delta / (1.0 + ahead)
            path_R2[size, 0] = rounded(x + (before_x + after_x) * share)
            path_R2[size, 1] = rounded(y + (before_y + after_y) * share)
            size += 1
            k = j
            continue
        else:
            slope = np.tan(np.arctan2(turn, ahead) / 4.0)
            path_R2[size, 0] = rounded(x + delta * (before_x - before_y * slope))
            path_R2[size, 1] = rounded(y + delta * (before_y + before_x * slope))
            path_R2[size + 1, 0] = rounded(x + delta * (after_x + after_y * slope))
            path_R2[size + 1, 1] = rounded(y + delta * (after_y - after_x * slope))
            size += 2
            k = j
            continue
        path_R2[size, 0], path_R2[size, 1] = rounded(x + after_x * delta), rounded(y + after_y * delta)
        size += 1
        k = j
    return path_R2[: drop_collinear(path_R2, size)]
