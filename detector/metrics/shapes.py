"""Polygons packed for the compiled loops, and the areas that two sets of them have in common.

Shapes: N polygons, P vertices in all (or pairs of polygons), V vertices of one. A polygon that crosses itself is the
region of the even-odd rule, as the clipper behind the published scorers (GPC) has it; its own area is the absolute
shoelace sum, as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
        kind_N: flat, convex, general or outside (`kernels.polygons`).
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
    np.cumsum(np.fromiter(map(len, polygons), np.int64, len(polygons)), out=starts_M[1:])
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
    # `make_valid` loses faces of some crossings, so the faces between the noded edges are judged one by one.
    from detector.kernels.polygons import contains

    vertices_V2 = np.ascontiguousarray(polygon_V2, dtype=np.float64)
    edges = shapely.linestrings(np.stack([vertices_V2, np.roll(vertices_V2, -1, axis=0)], axis=1))
    faces = shapely.get_parts(shapely.polygonize(shapely.get_parts(shapely.union_all(edges))))
    probes_F2 = shapely.get_coordinates(shapely.point_on_surface(faces))
    odd_F = [contains(vertices_V2, 0, len(vertices_V2), x, y) for x, y in probes_F2.tolist()]
    odd: BaseGeometry = shapely.union_all(faces[np.array(odd_F, dtype=np.bool_)])
    return odd


@dataclass(frozen=True, slots=True, eq=False)
class Common:
    """Pairs of an owner and another polygon whose boxes meet, and the area they share; all other pairs share nothing.

    Attributes:
        starts_M, partner_P: pairs of owner o are `starts_M[o]` to `starts_M[o + 1]`; partners ascend.
        area_P: px^2.
    """

    starts_M: NDArray[np.int64]
    partner_P: NDArray[np.int64]
    area_P: Float64

    def matrix(self, others: int) -> Float64:
        """The areas of all pairs, (owners, others)."""
        area = np.zeros((len(self.starts_M) - 1, others))
        area[np.repeat(np.arange(len(area)), np.diff(self.starts_M)), self.partner_P] = self.area_P
        return area


def common_areas(
    owner_box_G4: Float64,
    pieces: Packed,
    owner_N: NDArray[np.int64],
    others: Packed,
    region_of: Callable[[int], BaseGeometry] | None = None,
) -> Common:
    """Areas that owners' regions have in common with other polygons, where their boxes meet.

    Args:
        owner_box_G4: around all that is asked of an owner, its pieces at least.
        pieces: disjoint parts of the owners' regions.
        owner_N: the owner of each piece, ascending; an owner with an `OUTSIDE` piece has that one only.
        region_of: the whole region of an owner that has such a piece.
    """
    from detector.kernels.pairs import meeting, pair_areas

    starts_M, partner_P = meeting(owner_box_G4, others.box_N4)
    area_P, left = pair_areas(
        starts_M,
        partner_P,
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
    )
    common = Common(starts_M, partner_P, area_P)
    if left and region_of is not None:
        _fill(common, region_of, others)
    return common


def _fill(common: Common, region_of: Callable[[int], BaseGeometry], others: Packed) -> None:
    """Replaces the areas below zero, those that the compiled loop left out."""
    import shapely

    pairs = np.flatnonzero(common.area_P < 0.0)
    owners = np.searchsorted(common.starts_M, pairs, side="right") - 1
    partners = common.partner_P[pairs].tolist()
    their = {index: region(others.polygon(index)) for index in set(partners)}
    shared = shapely.intersection([region_of(owner) for owner in owners.tolist()], [their[index] for index in partners])
    common.area_P[pairs] = shapely.area(shared)
