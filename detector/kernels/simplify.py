"""Simplified contours: cv2.approxPolyDP's algorithm (OpenCV 5) on all contours of a map in one compiled call.

Packed as in `kernels.postprocess`: N contours, all their points one after another, `ends_N` where each ends.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled
from detector.types import Float64

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@compiled
def simplify(points_P2: Int32, ends_N: Int64, chosen_K: Int64, epsilon: float) -> tuple[Int32, Int64, Float64]:
    """Contours simplified by cv2.approxPolyDP's algorithm, within `epsilon` times each one's length.

    Returns:
        Their vertices, packed; where each ends (K); the area in px^2 and the length in px of each (K, 2).
    """
    total = 0
    for n in chosen_K:
        total += ends_N[n] - (ends_N[n - 1] if n > 0 else 0)
    thin_Q2 = np.empty((total, 2), dtype=np.int32)
    thin_K, sizes_K2 = np.empty(len(chosen_K), dtype=np.int64), np.empty((len(chosen_K), 2))
    stack_S2 = np.empty((total + 4, 2), dtype=np.int64)
    size = 0
    for k in range(len(chosen_K)):
        n = chosen_K[k]
        contour_V2 = points_P2[ends_N[n - 1] if n > 0 else 0 : ends_N[n]]
        count = _douglas_peucker(contour_V2, epsilon * _measure(contour_V2)[1], thin_Q2[size:], stack_S2)
        sizes_K2[k, 0], sizes_K2[k, 1] = _measure(thin_Q2[size : size + count])
        size += count
        thin_K[k] = size
    return thin_Q2[:size], thin_K, sizes_K2


@compiled
def _measure(points_V2: Int32) -> tuple[float, float]:
    doubled, length = np.int64(0), 0.0
    for v in range(len(points_V2)):
        u = v + 1 if v + 1 < len(points_V2) else 0
        ax, ay = np.int64(points_V2[v, 0]), np.int64(points_V2[v, 1])
        bx, by = np.int64(points_V2[u, 0]), np.int64(points_V2[u, 1])
        doubled += ax * by - bx * ay
        length += np.sqrt(float((bx - ax) * (bx - ax) + (by - ay) * (by - ay)))
    return abs(doubled) / 2.0, length


@compiled
def _douglas_peucker(points_V2: Int32, epsilon: float, out_V2: Int32, stack_S2: Int64) -> int:
    """Douglas and Peucker 1973 on a closed outline, as OpenCV does it; returns how many points are kept."""
    count = len(points_V2)
    limit = epsilon * epsilon
    # Two points far apart: the farthest of the farthest of the first.
    position = far = 0
    small = False
    for _ in range(3):
        position = (position + far) % count
        x, y = points_V2[position, 0], points_V2[position, 1]
        position = (position + 1) % count
        farthest = 0.0
        for j in range(1, count):
            dx, dy = float(points_V2[position, 0] - x), float(points_V2[position, 1] - y)
            position = position + 1 if position + 1 < count else 0
            if dx * dx + dy * dy > farthest:
                farthest, far = dx * dx + dy * dy, j
        small = farthest <= limit
    kept = top = 0
    if small:
        out_V2[0] = points_V2[position]
        return 1
    start = position % count
    middle = (far + start) % count
    stack_S2[0, 0], stack_S2[0, 1] = middle, start
    stack_S2[1, 0], stack_S2[1, 1] = start, middle
    top = 2
    while top > 0:
        top -= 1
        first, last = stack_S2[top]
        x, y = points_V2[first, 0], points_V2[first, 1]
        at = first + 1 if first + 1 < count else 0
        flat, split = True, 0
        if at != last:
            dx, dy = float(points_V2[last, 0] - x), float(points_V2[last, 1] - y)
            squared, farthest = dx * dx + dy * dy, 0.0  # distances to the segment, squared, times its squared length
            while at != last:
                px, py = float(points_V2[at, 0] - x), float(points_V2[at, 1] - y)
                along = px * dx + py * dy
                if along < 0:
                    away = (px * px + py * py) * squared
                elif along > squared:
                    away = ((px - dx) * (px - dx) + (py - dy) * (py - dy)) * squared
                else:
                    away = (py * dx - px * dy) * (py * dx - px * dy)
                if away > farthest:
                    farthest, split = away, at
                at = at + 1 if at + 1 < count else 0
            flat = farthest <= limit * squared
        if flat:
            out_V2[kept, 0], out_V2[kept, 1] = x, y
            kept += 1
        else:
            stack_S2[top, 0], stack_S2[top, 1] = split, last
            stack_S2[top + 1, 0], stack_S2[top + 1, 1] = first, split
            top += 2
    return _drop_straight(out_V2, kept, limit)


@compiled
def _drop_straight(out_V2: Int32, count: int, limit: float) -> int:
    """OpenCV's last pass: points on (almost) straight lines go, unless the line follows the grid."""
    kept = count
    position = count - 1
    from_x, from_y = out_V2[position, 0], out_V2[position, 1]
    position = 0
    write = 0
    x, y = out_V2[position, 0], out_V2[position, 1]
    position = position + 1 if position + 1 < count else 0
    i = 0
    while i < count and kept > 2:
        to_x, to_y = out_V2[position, 0], out_V2[position, 1]
        position = position + 1 if position + 1 < count else 0
        dx, dy = float(to_x - from_x), float(to_y - from_y)
        away = abs((x - from_x) * dy - (y - from_y) * dx)
        ahead = float(x - from_x) * (to_x - x) + float(y - from_y) * (to_y - y)
        if away * away <= 0.5 * limit * (dx * dx + dy * dy) and dx != 0 and dy != 0 and ahead >= 0:
            kept -= 1
            from_x, from_y = to_x, to_y
            out_V2[write, 0], out_V2[write, 1] = to_x, to_y
            write = write + 1 if write + 1 < count else 0
            x, y = out_V2[position, 0], out_V2[position, 1]
            position = position + 1 if position + 1 < count else 0
            i += 2
            continue
        from_x, from_y = x, y
        out_V2[write, 0], out_V2[write, 1] = x, y
        write = write + 1 if write + 1 < count else 0
        x, y = to_x, to_y
        i += 1
    return kept
