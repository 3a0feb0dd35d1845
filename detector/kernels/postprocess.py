"""The compiled loop of postprocessing: the mean of a map inside each of many contours, in one call.

Shapes: H, W map height and width in px; N contours; V vertices of all contours, one after another; `ends_N` is where
each contour's vertices end. Vertices are integer (column, row) of pixels, as cv2.findContours gives them.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from detector.types import Float64

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def contour_means(map_HW: NDArray[np.generic], points_V2: Int32, ends_N: Int64) -> Float64:
    """Mean of `map_HW` over the pixels inside or on each contour, in the map's own units.

    A contour's edges run at multiples of 45 degrees (8-connected), so every crossing with a row is a whole column and
    the fill is exact: pixels on an edge are marked; between edges a running parity over the row says inside or out. An
    edge counts for the rows from its upper end to before its lower end, hence a spur walked out and back cancels.
    """
    means_N = np.zeros(len(ends_N))
    start = 0
    for n in range(len(ends_N)):
        end = ends_N[n]
        left, top = points_V2[start, 0], points_V2[start, 1]
        right, bottom = left, top
        for v in range(start + 1, end):
            left, right = min(left, points_V2[v, 0]), max(right, points_V2[v, 0])
            top, bottom = min(top, points_V2[v, 1]), max(bottom, points_V2[v, 1])
        width = right - left + 1
        # bit 0: on an edge; bit 1: the parity turns here
        cells = np.zeros((bottom - top + 1, width), dtype=np.uint8)
        for v in range(start, end):
            u = v + 1 if v + 1 < end else start
            x, y = points_V2[v, 0] - left, points_V2[v, 1] - top
            to_x, to_y = points_V2[u, 0] - left, points_V2[u, 1] - top
            step_x, step_y = np.sign(to_x - x), np.sign(to_y - y)
            for _ in range(max(abs(to_x - x), abs(to_y - y))):
                cells[y, x] |= 1
                if step_y > 0:
                    cells[y, x] ^= 2
                x, y = x + step_x, y + step_y
                if step_y < 0:
                    cells[y, x] ^= 2
            cells[y, x] |= 1
        total, count = 0.0, 0
        for row in range(bottom - top + 1):
            inside = 0
            for column in range(width):
                cell = cells[row, column]
                inside ^= cell & 2
                if inside | (cell & 1):
                    total += map_HW[top + row, left + column]
                    count += 1
        means_N[n] = total / count
        start = end
    return means_N
