"""Don't-care words less the words that lie over them, as `cleval` 0.1.1 has them.

A convex region less a convex polygon falls into convex pieces, one along each edge of what is taken away, so the
compiled clipper of the other areas serves here as well. Regions with anything not convex go to shapely.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.metrics.shapes import Packed, pack, region
from detector.types import Float64

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


def cut_words(polygons: Packed, care_G: NDArray[np.bool_]) -> tuple[Packed, NDArray[np.int64], dict[int, BaseGeometry]]:
    """Pieces of all words' regions, the owner of each, and for shapely the regions of the words that were cut."""
    from detector.kernels.polygons import CONVEX, FLAT, OUTSIDE

    parts: list[Float64] = []
    owners: list[int] = []
    kinds: list[int] = []
    regions: dict[int, BaseGeometry] = {}
    for index in range(len(polygons)):
        own = [polygons.polygon(index)]
        kind = int(polygons.kind_N[index])
        over = [] if care_G[index] else _meeting(polygons, index, care_G)
        if over:
            regions[index] = _less(polygons, index, over)
            if all(polygons.kind_N[other] == CONVEX for other in [index, *over]):
                for other in over:
                    own = [rest for piece in own for rest in _subtract(piece, polygons.polygon(other))]
            else:
                kind = OUTSIDE  # only shapely knows the region; the polygon stands for it
        parts += own
        owners += [index] * len(own)
        kinds += [kind] * len(own)
    pieces = pack(parts, truncate=False)
    # cut edges are convex up to rounding, which `kind_of` would take for dents; a crossing may have area 0 and inside
    kind_N = np.array(kinds)
    pieces.kind_N[:] = np.where((kind_N == CONVEX) & (pieces.area_N == 0.0), FLAT, kind_N)
    return pieces, np.array(owners, np.int64), regions


def _meeting(polygons: Packed, index: int, care_G: NDArray[np.bool_]) -> list[int]:
    """The words that count whose boxes meet the word's."""
    x0, y0, x1, y1 = polygons.box_N4[index]
    box_N4 = polygons.box_N4
    meets_N = (box_N4[:, 0] < x1) & (box_N4[:, 2] > x0) & (box_N4[:, 1] < y1) & (box_N4[:, 3] > y0)
    return np.flatnonzero(meets_N & care_G & (polygons.kind_N != 0)).tolist()


def _less(polygons: Packed, index: int, over: list[int]) -> BaseGeometry:
    import shapely

    return shapely.difference(
        region(polygons.polygon(index)), shapely.union_all([region(polygons.polygon(other)) for other in over])
    )


def _subtract(piece_V2: Float64, hole_V2: Float64) -> list[Float64]:
    """Convex pieces of a convex polygon less a convex hole: outside edge k, inside the edges before it."""
    from detector.kernels.polygons import shoelace

    if shoelace(hole_V2, 0, len(hole_V2)) < 0.0:
        hole_V2 = hole_V2[::-1]
    pieces, rest_V2 = [], piece_V2
    for start_2, end_2 in zip(hole_V2, np.roll(hole_V2, -1, axis=0), strict=True):
        if (start_2 == end_2).all():
            continue
        outside_V2 = _half(rest_V2, end_2, start_2)
        if len(outside_V2) >= 3:
            pieces.append(outside_V2)
        rest_V2 = _half(rest_V2, start_2, end_2)
        if len(rest_V2) < 3:
            break
    return pieces


def _half(polygon_V2: Float64, start_2: Float64, end_2: Float64) -> Float64:
    """The part of a convex polygon on the inner side of the line from start to end (where `shoelace` is positive)."""
    d_x, d_y = end_2 - start_2
    side_V = d_x * (polygon_V2[:, 1] - start_2[1]) - d_y * (polygon_V2[:, 0] - start_2[0])
    kept = []
    for index in range(len(polygon_V2)):
        before, here = side_V[index - 1], side_V[index]
        if before * here < 0.0:
            t = before / (before - here)
            kept.append(polygon_V2[index - 1] + t * (polygon_V2[index] - polygon_V2[index - 1]))
        if here >= 0.0:
            kept.append(polygon_V2[index])
    return np.array(kept).reshape(-1, 2)
