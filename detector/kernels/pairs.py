"""Pairs of polygons whose boxes meet, and the areas they share: the work grows with the pairs, not with all N x M.

Shapes: A, B boxes of either side, as x0, y0, x1, y1; P pairs. Pairs come by the first side: those of box a are
`partner_P[starts_M[a]:starts_M[a + 1]]`, ascending, M = A + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import CONVEX, FLAT, OUTSIDE, clipped_area, compiled
from detector.kernels.sweep import common_area
from detector.types import Float64


@compiled
def meeting(a_box_A4: Float64, b_box_B4: Float64) -> Any:
    """`starts_M`, `partner_P` (int64) of the pairs whose boxes meet or touch; a box with x0 > x1 or NaN meets none."""
    a_count, b_count = len(a_box_A4), len(b_box_B4)
    starts_M = np.zeros(a_count + 1, np.int64)
    partner_P = np.empty(2 * a_count + 16, np.int64)
    side = max(1, int(np.sqrt(float(b_count))))
    low_x, low_y, per_x, per_y = _lattice(b_box_B4, side)
    cell_starts, cell_boxes = _cells(b_box_B4, side, low_x, low_y, per_x, per_y)
    seen_B = np.full(b_count, -1, np.int64)
    found = 0
    for a in range(a_count):
        x0, y0, x1, y1 = a_box_A4[a, 0], a_box_A4[a, 1], a_box_A4[a, 2], a_box_A4[a, 3]
        if not (x0 <= x1 and y0 <= y1):
            starts_M[a + 1] = found
            continue
        right, bottom = _cell(x1, low_x, per_x, side), _cell(y1, low_y, per_y, side)
        for row in range(_cell(y0, low_y, per_y, side), bottom + 1):
            for column in range(_cell(x0, low_x, per_x, side), right + 1):
                cell = row * side + column
                for k in range(cell_starts[cell], cell_starts[cell + 1]):
                    b = cell_boxes[k]
                    if seen_B[b] == a or b_box_B4[b, 0] > x1 or b_box_B4[b, 2] < x0:
                        continue
                    if b_box_B4[b, 1] > y1 or b_box_B4[b, 3] < y0:
                        continue
                    seen_B[b] = a
                    if found == len(partner_P):
                        longer = np.empty(2 * found, np.int64)
                        longer[:found] = partner_P
                        partner_P = longer
                    at = found  # insertion keeps the partners ascending
                    while at > starts_M[a] and partner_P[at - 1] > b:
                        partner_P[at] = partner_P[at - 1]
                        at -= 1
                    partner_P[at] = b
                    found += 1
        starts_M[a + 1] = found
    return starts_M, partner_P[:found]


@compiled
def _lattice(box_B4: Float64, side: int) -> Any:
    """Origin and cells per px of a grid of side x side cells over the boxes."""
    low_x = low_y = np.inf
    high_x = high_y = -np.inf
    for b in range(len(box_B4)):
        low_x, low_y = min(low_x, box_B4[b, 0]), min(low_y, box_B4[b, 1])
        high_x, high_y = max(high_x, box_B4[b, 2]), max(high_y, box_B4[b, 3])
    per_x = side / (high_x - low_x) if high_x > low_x else 0.0
    per_y = side / (high_y - low_y) if high_y > low_y else 0.0
    return low_x, low_y, per_x, per_y


@compiled
def _cells(box_B4: Float64, side: int, low_x: float, low_y: float, per_x: float, per_y: float) -> Any:
    """Where each cell's boxes begin in the second array, and the boxes of all cells, each in all cells it covers."""
    starts = np.zeros(side * side + 1, np.int64)
    boxes = np.empty(0, np.int64)
    for turn in range(2):  # count, then fill
        for b in range(len(box_B4)):
            if not (box_B4[b, 0] <= box_B4[b, 2] and box_B4[b, 1] <= box_B4[b, 3]):
                continue
            right, bottom = _cell(box_B4[b, 2], low_x, per_x, side), _cell(box_B4[b, 3], low_y, per_y, side)
            for row in range(_cell(box_B4[b, 1], low_y, per_y, side), bottom + 1):
                for column in range(_cell(box_B4[b, 0], low_x, per_x, side), right + 1):
                    cell = row * side + column
                    if turn == 0:
                        starts[cell] += 1
                    else:
                        starts[cell] -= 1
                        boxes[starts[cell]] = b
        if turn == 0:
            for cell in range(side * side):
                starts[cell + 1] += starts[cell]
            boxes = np.empty(starts[side * side], np.int64)
    return starts, boxes


@compiled
def _cell(value: float, low: float, per_px: float, side: int) -> int:
    """Column or row of a coordinate; outside ones, and NaN, belong to the cells at the border."""
    place = (value - low) * per_px
    if not place > 0.0:
        return 0
    return side - 1 if place >= side else int(place)


@compiled
def pair_areas(
    pair_starts_M: Any,
    partner_P: Any,
    a_points_P2: Float64,
    a_starts_M: Any,
    a_area_N: Float64,
    a_box_N4: Float64,
    a_kind_N: Any,
    owner_N: Any,
    b_points_P2: Float64,
    b_starts_M: Any,
    b_box_N4: Float64,
    b_kind_N: Any,
) -> Any:
    """Areas that the owners of pieces a have in common with polygons b, px^2, of the pairs of `meeting` alone.

    Pairs with a piece that is OUTSIDE are not computed: their entry is -1, and they are counted in the second result.
    `owner_N` ascends; an owner may have no piece at all.
    """
    area_P = np.zeros(len(partner_P))
    left = 0
    longest_a = longest_b = 0
    for a in range(len(a_starts_M) - 1):
        longest_a = max(longest_a, a_starts_M[a + 1] - a_starts_M[a])
    for b in range(len(b_starts_M) - 1):
        longest_b = max(longest_b, b_starts_M[b + 1] - b_starts_M[b])
    # each clip edge adds at most one vertex to a convex polygon; rounding may add one more
    work = np.empty((2, longest_a + longest_b + longest_b + 2, 2))
    for a in range(len(a_starts_M) - 1):
        if a_kind_N[a] == FLAT:
            continue
        x0, y0, x1, y1 = a_box_N4[a, 0], a_box_N4[a, 1], a_box_N4[a, 2], a_box_N4[a, 3]
        side = 1.0 if a_area_N[a] > 0.0 else -1.0
        for p in range(pair_starts_M[owner_N[a]], pair_starts_M[owner_N[a] + 1]):
            b = partner_P[p]
            if b_box_N4[b, 0] >= x1 or b_box_N4[b, 2] <= x0 or b_box_N4[b, 1] >= y1 or b_box_N4[b, 3] <= y0:
                continue
            if b_kind_N[b] == FLAT or area_P[p] < 0.0:
                continue
            a0, a1, b0, b1 = a_starts_M[a], a_starts_M[a + 1], b_starts_M[b], b_starts_M[b + 1]
            if a_kind_N[a] == OUTSIDE:
                area_P[p] = -1.0
                left += 1
            elif a_kind_N[a] == CONVEX and b_kind_N[b] == CONVEX:
                area_P[p] += clipped_area(b_points_P2, b0, b1, a_points_P2, a0, a1, side, work)
            else:
                area_P[p] += common_area(a_points_P2, a0, a1, b_points_P2, b0, b1)
    return area_P, left
