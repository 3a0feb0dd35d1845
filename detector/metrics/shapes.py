"""Polygons packed for the compiled loops, and the exact areas of those that the loops leave out.

Shapes: N polygons, P vertices in all, V vertices of one. A polygon that crosses itself is the region of the even-odd
rule, as the clipper behind the published scorers (GPC) has it; its own area is the absolute shoelace sum, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detector.types import Float64

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """N polygons in the layout of `detector.kernels.polygons`, with what the loops need to know of each.

    Attributes:
        points_P2, starts_M: vertices, and where each polygon begins (M = N + 1).
        area_N: signed shoelace areas, px^2.
        box_N4: x0, y0, x1, y1.
        kind_N: flat, convex or general (`kernels.polygons`).
    """

    points_P2: Float64
    starts_M: NDArray[np.int64]
    area_N: Float64
    box_N4: Float64
    kind_N: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts_M) - 1

    def polygon(self, index: int) -> Float64:
        """Vertices (V, 2) of one polygon."""
        return self.points_P2[self.starts_M[index] : self.starts_M[index + 1]]


def pack(polygons: Sequence[Float64], truncate: bool) -> Packed:
    """Packs polygons of three vertices or more; `truncate` cuts the fractions off, towards zero."""
    from detector.kernels.polygons import facts  # numba takes most of a second to import

    starts_M = np.zeros(len(polygons) + 1, np.int64)
    np.cumsum([len(polygon) for polygon in polygons], out=starts_M[1:])
    points_P2 = np.ascontiguousarray(np.concatenate(polygons) if polygons else np.zeros((0, 2)), dtype=np.float64)
    if truncate:
        points_P2 = np.trunc(points_P2)
    return Packed(points_P2, starts_M, *facts(points_P2, starts_M))


def region(polygon_V2: Float64) -> BaseGeometry:
    """The polygon as a valid shapely geometry, by the even-odd rule."""
    import shapely

    ring: BaseGeometry = shapely.Polygon(polygon_V2)
    if shapely.is_valid(ring):
        return ring
    # "linework" keeps what the ring winds around an odd number of times; spikes come back as lines, which have no area
    parts = shapely.get_parts(shapely.get_parts(shapely.make_valid(ring, method="linework")))
    return shapely.MultiPolygon(parts[shapely.get_dimensions(parts) == 2].tolist())


def intersection_areas(
    pieces: Packed, owner_N: NDArray[np.int64], owners: int, others: Packed, region_of: Callable[[int], BaseGeometry]
) -> Float64:
    """Areas of owner o's region with each of the other polygons, (owners, len(others)), px^2.

    Convex pairs are clipped in a compiled loop; pairs with anything else in them go to shapely.

    Args:
        pieces: disjoint parts of the owners' regions.
        owner_N: the owner of each piece; an owner with a general piece has that one only.
        region_of: the whole region of an owner, for shapely.
    """
    from detector.kernels.polygons import intersections

    area: Float64
    area, left = intersections(
        pieces.points_P2,
        pieces.starts_M,
        pieces.area_N,
        pieces.box_N4,
        pieces.kind_N,
        owner_N,
        others.points_P2,
        others.starts_M,
        others.box_N4,
        others.kind_N,
        owners,
    )
    if left:
        _fill(area, region_of, lambda index: region(others.polygon(index)))
    return area


def _fill(area: Float64, region_of: Callable[[int], BaseGeometry], other: Callable[[int], BaseGeometry]) -> None:
    """Replaces the entries below zero, those that the compiled loop left out."""
    import shapely

    rows, columns = np.nonzero(area < 0.0)
    own: dict[int, Any] = {row: region_of(row) for row in set(rows.tolist())}
    their: dict[int, Any] = {column: other(column) for column in set(columns.tolist())}
    pairs = shapely.intersection([own[row] for row in rows.tolist()], [their[column] for column in columns.tolist()])
    area[rows, columns] = shapely.area(pairs)
