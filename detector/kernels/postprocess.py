"""The compiled loops of postprocessing: means and smallest rectangles of many contours, each in one call.

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
def binarise(map_HW: NDArray[np.generic], limit: float, mask_HW: NDArray[np.uint8]) -> bool:
    """Write `map_HW > limit` to `mask_HW`; whether all of the map is finite. `limit` is of the map's own type."""
    height, width = map_HW.shape
    strange = 0
    for i in range(height):
        row_W, out_W = map_HW[i], mask_HW[i]
        for j in range(width):
            out_W[j] = row_W[j] > limit
            strange += row_W[j] - row_W[j] != 0  # NaN, and infinity less infinity, equal nothing
    return strange == 0


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def bounding_areas(points_V2: Int32, ends_N: Int64) -> Float64:
    """Pixels in each contour's upright bounding box: no less than in its smallest rectangle."""
    areas_N = np.empty(len(ends_N))
    start = 0
    for n in range(len(ends_N)):
        left, top = points_V2[start, 0], points_V2[start, 1]
        right, bottom = left, top
        for v in range(start + 1, ends_N[n]):
            left, right = min(left, points_V2[v, 0]), max(right, points_V2[v, 0])
            top, bottom = min(top, points_V2[v, 1]), max(bottom, points_V2[v, 1])
        areas_N[n] = float(right - left + 1) * float(bottom - top + 1)
        start = ends_N[n]
    return areas_N


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def contour_fills(map_HW: NDArray[np.generic], points_V2: Int32, ends_N: Int64) -> Float64:
    """Number of pixels inside or on each contour, and their mean in `map_HW`, in the map's own units: (N, 2).

    A contour's edges run at multiples of 45 degrees (8-connected), so every crossing with a row is a whole column and
    the fill is exact: pixels on an edge are marked; between edges a running parity over the row says inside or out. An
    edge counts for the rows from its upper end to before its lower end, hence a spur walked out and back cancels.
    """
    fills_N2 = np.zeros((len(ends_N), 2))
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
        fills_N2[n, 0], fills_N2[n, 1] = count, total / count
        start = end
    return fills_N2


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def smallest_rectangles(points_V2: Int32, ends_N: Int64, chosen_K: Int64) -> Float64:
    """The smallest rectangle around the pixels of each contour chosen: (K, 7), see below.

    The columns: centre x, y, width, height, cosine, sine, and the area that the contour itself encloses.

    Around the pixels' centres, in corner coordinates: of a block of w x h pixels it is (w - 1) x (h - 1). Of the
    rectangles with a side along an edge of the hull (Freeman and Shapira 1975) it has the smallest area; of equal ones
    the first edge counts, from the leftmost point on. All sums are of integers, which OpenCV's float32 is not: a block
    comes back exactly, and the same on every machine. (cosine, sine) is the direction of the width, within 45 degrees
    of the x axis.
    """
    boxes_K7 = np.empty((len(chosen_K), 7))
    for k in range(len(chosen_K)):
        n = chosen_K[k]
        start, end = ends_N[n - 1] if n > 0 else 0, ends_N[n]
        doubled = np.int64(0)
        for v in range(start, end):
            u = v + 1 if v + 1 < end else start
            doubled += np.int64(points_V2[v, 0]) * points_V2[u, 1] - np.int64(points_V2[u, 0]) * points_V2[v, 1]
        boxes_K7[k, 6] = abs(doubled) / 2.0
        hull_C2 = convex_hull(points_V2[start:end])
        count = len(hull_C2)
        best = np.inf
        for i in range(count):
            dx = hull_C2[(i + 1) % count, 0] - hull_C2[i, 0]
            dy = hull_C2[(i + 1) % count, 1] - hull_C2[i, 1]
            if dx == 0 and dy == 0:  # a single point
                dx = 1
            while not (dx > 0 and -dx < dy <= dx):
                dx, dy = -dy, dx
            low_u = high_u = hull_C2[0, 0] * dx + hull_C2[0, 1] * dy
            low_v = high_v = hull_C2[0, 1] * dx - hull_C2[0, 0] * dy
            for j in range(1, count):
                u = hull_C2[j, 0] * dx + hull_C2[j, 1] * dy
                v = hull_C2[j, 1] * dx - hull_C2[j, 0] * dy
                low_u, high_u = min(low_u, u), max(high_u, u)
                low_v, high_v = min(low_v, v), max(high_v, v)
            length = np.sqrt(float(dx * dx + dy * dy))
            width, height = (high_u - low_u) / length, (high_v - low_v) / length
            if width * height < best:
                best = width * height
                square = 2.0 * (dx * dx + dy * dy)
                middle_u, middle_v = (low_u + high_u) / square, (low_v + high_v) / square
                boxes_K7[k, 0] = middle_u * dx - middle_v * dy + 0.5
                boxes_K7[k, 1] = middle_u * dy + middle_v * dx + 0.5
                boxes_K7[k, 2], boxes_K7[k, 3] = width, height
                boxes_K7[k, 4], boxes_K7[k, 5] = dx / length, dy / length
    return boxes_K7


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def convex_hull(points_V2: Int32) -> Int64:
    """Corners of the hull from the leftmost (topmost of these) on, without points on its edges (Andrew 1979).

    The points are put in order by their columns, of which only the highest and the lowest pixel can be a corner.
    """
    left, right = points_V2[0, 0], points_V2[0, 0]
    for v in range(1, len(points_V2)):
        left, right = min(left, points_V2[v, 0]), max(right, points_V2[v, 0])
    span_C2 = np.empty((right - left + 1, 2), dtype=np.int64)  # topmost and lowest of each column
    span_C2[:, 0], span_C2[:, 1] = np.int64(1) << 32, -1
    for v in range(len(points_V2)):
        column, y = points_V2[v, 0] - left, points_V2[v, 1]
        span_C2[column, 0], span_C2[column, 1] = min(span_C2[column, 0], y), max(span_C2[column, 1], y)
    hull_K2 = np.empty((2 * min(len(points_V2), 2 * len(span_C2)) + 1, 2), dtype=np.int64)
    size = 0
    for turn in range(2):  # there along one side, back along the other
        floor = max(size, 1)
        for i in range(2 * len(span_C2)):
            at = i if turn == 0 else 2 * len(span_C2) - 1 - i
            x, y = np.int64(left + at // 2), span_C2[at // 2, at % 2]
            if y < 0 or y >> 32:
                continue
            while size > floor:
                a, b = size - 2, size - 1
                cross = (hull_K2[b, 0] - hull_K2[a, 0]) * (y - hull_K2[a, 1])
                cross -= (hull_K2[b, 1] - hull_K2[a, 1]) * (x - hull_K2[a, 0])
                if cross > 0:
                    break
                size -= 1
            if size > 0 and hull_K2[size - 1, 0] == x and hull_K2[size - 1, 1] == y:
                continue
            hull_K2[size, 0], hull_K2[size, 1] = x, y
            size += 1
    if size > 1:  # the way back ends where the way there began
        size -= 1
    return hull_K2[:size]
