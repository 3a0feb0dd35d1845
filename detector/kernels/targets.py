"""Compiled loops of the training maps; their plain twin is in tests/data/test_targets.py.

Shapes: N polygons, P all their vertices one after another, V vertices of one; H, W canvas in px. Polygon n has the
vertices starts_N1[n] ... starts_N1[n + 1] - 1. Pixel (row i, column j) is judged at its centre (j + .5, i + .5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import compiled
from detector.types import Float32, Float64


@compiled
def shrink_convex(polygon_V2: Float64, offset: float, out_P2: Float64) -> int:
    """Offset a convex polygon inwards: cut it with each edge's line moved by `offset` px.

    Exact for every convex polygon, also where short edges vanish. The result is written to `out_P2`, which must hold
    2 V + 2 rows; returns how many vertices it has, 0 where nothing is left.
    """
    size = len(polygon_V2)
    doubled = 0.0
    for k in range(size):
        m = (k + 1) % size
        doubled += (polygon_V2[k, 0] - polygon_V2[0, 0]) * (polygon_V2[m, 1] - polygon_V2[0, 1])
        doubled -= (polygon_V2[m, 0] - polygon_V2[0, 0]) * (polygon_V2[k, 1] - polygon_V2[0, 1])
    sign = 1.0 if doubled > 0.0 else -1.0
    here = np.empty((2 * size + 2, 2))
    here[:size] = polygon_V2
    count = size
    for k in range(size):
        m = (k + 1) % size
        dx, dy = polygon_V2[m, 0] - polygon_V2[k, 0], polygon_V2[m, 1] - polygon_V2[k, 1]
        length = np.sqrt(dx * dx + dy * dy)
        if length == 0.0:
            continue
        nx, ny = -sign * dy / length, sign * dx / length  # points into the polygon
        limit = nx * polygon_V2[k, 0] + ny * polygon_V2[k, 1] + offset
        kept = 0
        for i in range(count):
            before = count - 1 if i == 0 else i - 1
            depth_before = nx * here[before, 0] + ny * here[before, 1] - limit
            depth = nx * here[i, 0] + ny * here[i, 1] - limit
            if (depth >= 0.0) != (depth_before >= 0.0):
                share = depth_before / (depth_before - depth)
                out_P2[kept, 0] = here[before, 0] + share * (here[i, 0] - here[before, 0])
                out_P2[kept, 1] = here[before, 1] + share * (here[i, 1] - here[before, 1])
                kept += 1
            if depth >= 0.0:
                out_P2[kept, 0], out_P2[kept, 1] = here[i, 0], here[i, 1]
                kept += 1
        here[:kept] = out_P2[:kept]
        count = kept
        if count == 0:
            return 0
    return count


@compiled
def paint_borders(
    points_P2: Float64, starts_N1: NDArray[np.int64], offsets_N: Float64, closeness_HW: Float32, mask_HW: Float32
) -> None:
    """Raise `closeness_HW` to 1 - distance / offset near each outline, and set `mask_HW` to 1 up to offset px around.

    Both maps are changed in place. The maximum over the edges of 1 - d / D is 1 - min(d) / D, so that every edge visits
    only its own band of pixels and no map of distances is needed.
    """
    height, width = closeness_HW.shape
    for n in range(len(offsets_N)):
        first, last = starts_N1[n], starts_N1[n + 1]
        for k in range(first, last):
            m = first if k + 1 == last else k + 1
            _paint_edge(points_P2[k], points_P2[m], offsets_N[n], closeness_HW, mask_HW)
        _fill_inside(points_P2[first:last], mask_HW, height, width)


@compiled
def _paint_edge(a_2: Float64, b_2: Float64, offset: float, closeness_HW: Float32, mask_HW: Float32) -> None:
    height, width = closeness_HW.shape
    ax, ay, bx, by = a_2[0], a_2[1], b_2[0], b_2[1]
    dx, dy = bx - ax, by - ay
    squared = dx * dx + dy * dy
    scale = 1.0 / squared if squared > 0.0 else 0.0
    reach = offset * offset
    length = np.sqrt(squared)
    top = max(0, int(np.floor(min(ay, by) - offset - 0.5)))
    bottom = min(height - 1, int(np.ceil(max(ay, by) + offset - 0.5)))
    left_box, right_box = min(ax, bx) - offset, max(ax, bx) + offset
    for i in range(top, bottom + 1):
        y = i + 0.5
        left, right = left_box, right_box
        if abs(dy) > 1e-3 * length:
            # The band around the edge's line, |dy (x - ax) - dx (y - ay)| <= offset length, in this row.
            middle, half = ax + dx * (y - ay) / dy, offset * length / abs(dy)
            left, right = max(left, middle - half), min(right, middle + half)
        for j in range(max(0, int(np.floor(left - 0.5))), min(width - 1, int(np.ceil(right - 0.5))) + 1):
            x = j + 0.5
            t = min(1.0, max(0.0, ((x - ax) * dx + (y - ay) * dy) * scale))
            ex, ey = x - ax - t * dx, y - ay - t * dy
            distance = ex * ex + ey * ey
            if distance <= reach:
                value = np.float32(1.0 - np.sqrt(distance) / offset)
                mask_HW[i, j] = 1.0
                if value > closeness_HW[i, j]:
                    closeness_HW[i, j] = value


@compiled
def _fill_inside(polygon_V2: Float64, mask_HW: Float32, height: int, width: int) -> None:
    """Set the pixels whose centres lie inside (even-odd rule) to 1."""
    size = len(polygon_V2)
    crossings = np.empty(size)
    top = max(0, int(np.floor(polygon_V2[:, 1].min() - 0.5)))
    bottom = min(height - 1, int(np.ceil(polygon_V2[:, 1].max() - 0.5)))
    for i in range(top, bottom + 1):
        y = i + 0.5
        count = 0
        for k in range(size):
            m = (k + 1) % size
            ay, by = polygon_V2[k, 1], polygon_V2[m, 1]
            if (ay <= y) != (by <= y):
                share = (y - ay) / (by - ay)
                crossings[count] = polygon_V2[k, 0] + share * (polygon_V2[m, 0] - polygon_V2[k, 0])
                count += 1
        inner = np.sort(crossings[:count])
        for pair in range(0, count - 1, 2):
            first, last = max(0, int(np.ceil(inner[pair] - 0.5))), min(width, int(np.ceil(inner[pair + 1] - 0.5)))
            for j in range(first, last):
                mask_HW[i, j] = 1.0
