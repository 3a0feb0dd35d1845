"""Compiled loops of the training maps; their plain twin is `benchmarks.peers.plain_targets`.

Shapes: N polygons, P all their vertices one after another, V vertices of one, M = N + 1; H, W canvas in px, J pixels of
a part of a row. Polygon n has the vertices starts_M[n] ... starts_M[n + 1] - 1. Pixel (row i, column j) is judged at
its centre (j + .5, i + .5).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.kernels.polygons import CONVEX, compiled, kind_of
from detector.types import Float32, Float64, UInt8

# What becomes of a word: its place on the page is masked, or it is painted, or clipper has to shrink it first.
MASKED, PAINTED, GENERAL = 0, 1, 2


@compiled
def shrink_words(
    points_P2: Float64,
    starts_M: NDArray[np.int64],
    ignore_N: NDArray[np.bool_],
    thinnest_N: Float64,
    factor: float,
    min_side: float,
    out_Q2: Float64,
) -> tuple[Float64, NDArray[np.int64], NDArray[np.int64]]:
    """Every word's fate, offset and, of the convex ones, shrunk outline.

    Args:
        points_P2: vertices of all words.
        starts_M: where each word begins.
        ignore_N: don't-care words.
        thinnest_N: the shorter sides in px; below 0 for quads, whose shorter side is found here.
        factor: 1 - shrink_ratio^2.
        min_side: words with a shorter side below this are masked, px.
        out_Q2: takes the shrunk outlines; 2 P + 2 N rows.

    Returns:
        Offsets in px (N), fates (N), and where each shrunk outline begins in `out_Q2` (M).
    """
    words = len(starts_M) - 1
    offset_N = np.zeros(words)
    fate_N = np.zeros(words, np.int64)
    inner_M = np.zeros(words + 1, np.int64)
    for n in range(words):
        inner_M[n + 1] = inner_M[n]
        first, last = starts_M[n], starts_M[n + 1]
        size, length, thinnest = _measure(points_P2, first, last)
        if length > 0.0:
            offset_N[n] = size * factor / length
        if thinnest_N[n] >= 0.0:
            thinnest = thinnest_N[n]
        if ignore_N[n] or thinnest < min_side or offset_N[n] <= 0.0:
            continue
        if kind_of(points_P2, first, last) != CONVEX:
            fate_N[n] = GENERAL
            continue
        count = shrink_convex(points_P2[first:last], offset_N[n], out_Q2[inner_M[n] :])
        if count >= 3:
            fate_N[n] = PAINTED
            inner_M[n + 1] += count
    return offset_N, fate_N, inner_M


@compiled
def _measure(points_P2: Float64, first: int, last: int) -> tuple[float, float, float]:
    """Area in px^2, perimeter in px, and of a quad the area over the longer of its two mean opposite sides."""
    doubled = length = odd = even = 0.0
    x0, y0 = points_P2[first, 0], points_P2[first, 1]
    for k in range(first, last):
        m = first if k + 1 == last else k + 1
        ax, ay, bx, by = points_P2[k, 0], points_P2[k, 1], points_P2[m, 0], points_P2[m, 1]
        doubled += (ax - x0) * (by - y0) - (bx - x0) * (ay - y0)
        side = np.sqrt((bx - ax) * (bx - ax) + (by - ay) * (by - ay))
        length += side
        if (k - first) % 2 == 0:
            even += side
        else:
            odd += side
    size, longest = abs(doubled) / 2.0, max(even, odd) / 2.0
    return size, length, size / longest if longest > 0.0 else 0.0


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
    points_P2: Float64,
    starts_M: NDArray[np.int64],
    offset_N: Float64,
    snap: float,
    low: np.float32,
    span: np.float32,
    thresh_HW: Float32,
    mask_HW: UInt8,
) -> None:
    """Raise the threshold map near each outline, and set `mask_HW` to 1 up to offset + snap px around and inside.

    `thresh_HW` becomes the larger of itself and low + span (1 - distance / offset). Both maps are changed in place, a
    row of a word at a time, with its squared distances in a buffer that stays in the cache. Words with an offset of 0
    are left out.
    """
    height, width = thresh_HW.shape
    squared_W = np.empty(width)
    centres_W = np.arange(0.5, width)
    crossings_V = np.empty(len(points_P2))
    edges_V8 = np.empty((len(points_P2), 8))
    for n in range(len(offset_N)):
        if offset_N[n] <= 0.0:
            continue
        polygon_V2 = points_P2[starts_M[n] : starts_M[n + 1]]
        size, reach = len(polygon_V2), offset_N[n] + snap
        _edges(polygon_V2, reach, edges_V8)
        top = max(0, _first(edges_V8[:size, 6].min()))
        bottom = min(height, _first(edges_V8[:size, 7].max()) + 1)
        left = max(0, _first(polygon_V2[:, 0].min() - reach))
        right = min(width, _first(polygon_V2[:, 0].max() + reach) + 1)
        for i in range(top, bottom if right > left else top):
            squared_W[left:right] = np.inf
            for k in range(size):
                if edges_V8[k, 6] <= i + 0.5 <= edges_V8[k, 7]:
                    _nearest(edges_V8[k], i + 0.5, reach, left, right, centres_W, squared_W)
            _raise_row(
                squared_W[left:right], offset_N[n], reach, low, span, thresh_HW[i, left:right], mask_HW[i, left:right]
            )
            _fill_row(edges_V8[:size], i + 0.5, crossings_V, mask_HW[i])


@compiled
def _edges(polygon_V2: Float64, reach: float, out_V8: Float64) -> None:
    """What each edge needs in every row.

    Start x, y; extent x, y; 1 / length^2 or 0; half the width of its band in a row, or infinity where it is level; the
    rows' first and last y within reach.
    """
    for k in range(len(polygon_V2)):
        m = k + 1 if k + 1 < len(polygon_V2) else 0
        ax, ay, bx, by = polygon_V2[k, 0], polygon_V2[k, 1], polygon_V2[m, 0], polygon_V2[m, 1]
        dx, dy = bx - ax, by - ay
        squared = dx * dx + dy * dy
        length = np.sqrt(squared)
        out_V8[k, 0], out_V8[k, 1], out_V8[k, 2], out_V8[k, 3] = ax, ay, dx, dy
        out_V8[k, 4] = 1.0 / squared if squared > 0.0 else 0.0
        out_V8[k, 5] = reach * length / abs(dy) if abs(dy) > 1e-3 * length else np.inf
        out_V8[k, 6], out_V8[k, 7] = min(ay, by) - reach, max(ay, by) + reach


@compiled
def _first(at: float) -> int:
    """The first pixel whose centre is not below `at`."""
    return int(np.ceil(at - 0.5))


@compiled
def _nearest(
    edge_8: Float64, y: float, reach: float, left: int, right: int, centres_W: Float64, squared_W: Float64
) -> None:
    """Lower the row's squared distances to those to one edge, wherever they may be below reach^2."""
    ax, dx, dy, scale = edge_8[0], edge_8[2], edge_8[3], edge_8[4]
    across = y - edge_8[1]
    low, high = min(ax, ax + dx) - reach, max(ax, ax + dx) + reach
    if edge_8[5] < np.inf:
        # The band around the edge's line, |dy (x - ax) - dx (y - ay)| <= reach length, in this row.
        middle = ax + dx * across / dy
        low, high = max(low, middle - edge_8[5]), min(high, middle + edge_8[5])
    start, stop = max(left, _first(low)), min(right, _first(high) + 1)
    if start >= stop:
        return
    along = across * dy
    x_J, out_J = centres_W[start:stop], squared_W[start:stop]
    for j in range(len(x_J)):
        from_a = x_J[j] - ax
        t = (from_a * dx + along) * scale
        t = t if t > 0.0 else 0.0
        t = t if t < 1.0 else 1.0
        ex, ey = from_a - t * dx, across - t * dy
        distance = ex * ex + ey * ey
        out_J[j] = distance if distance < out_J[j] else out_J[j]


@compiled
def _raise_row(
    squared_J: Float64,
    offset: float,
    reach: float,
    low: np.float32,
    span: np.float32,
    thresh_J: Float32,
    mask_J: UInt8,
) -> None:
    inverse, limit = 1.0 / offset, reach * reach
    one = np.uint8(1)
    for j in range(len(squared_J)):
        closeness = 1.0 - np.sqrt(squared_J[j]) * inverse
        closeness = closeness if closeness > 0.0 else 0.0
        value = np.float32(closeness) * span + low
        thresh_J[j] = value if value > thresh_J[j] else thresh_J[j]
        mask_J[j] = one if squared_J[j] <= limit else mask_J[j]


@compiled
def _fill_row(edges_V8: Float64, y: float, crossings_V: Float64, mask_W: UInt8) -> None:
    """Set the pixels of a row whose centres lie inside (even-odd rule) to 1."""
    count = 0
    for k in range(len(edges_V8)):
        m = k + 1 if k + 1 < len(edges_V8) else 0
        ay, by = edges_V8[k, 1], edges_V8[m, 1]
        if (ay <= y) != (by <= y):
            crossing = edges_V8[k, 0] + (y - ay) / (by - ay) * edges_V8[k, 2]
            place = count
            while place > 0 and crossings_V[place - 1] > crossing:
                crossings_V[place] = crossings_V[place - 1]
                place -= 1
            crossings_V[place] = crossing
            count += 1
    for pair in range(0, count - 1, 2):
        first, stop = max(0, _first(crossings_V[pair])), min(len(mask_W), _first(crossings_V[pair + 1]))
        if first < stop:
            mask_W[first:stop] = 1
