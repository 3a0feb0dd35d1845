"""The compiled polygon loops against shapely and plain Python."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_pages import polygon_page

from detector.kernels import polygons as kernels
from detector.kernels.pairs import meeting
from detector.metrics.shapes import common_areas, pack, region
from detector.types import Float64

SEEDS = st.integers(0, 10**6)


def plain_inside(polygon: Float64, x: float, y: float) -> bool:
    crossings = 0
    for (x0, y0), (x1, y1) in zip(np.roll(polygon, 1, axis=0).tolist(), polygon.tolist(), strict=True):
        if min(y0, y1) <= y < max(y0, y1):
            crossings += x < (x0 - x1) * (y - y1) / (y0 - y1) + x1
    return crossings % 2 == 1


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(SEEDS)
def test_areas_boxes_and_kinds(seed: int) -> None:
    polygons = [np.trunc(polygon) for polygon in polygon_page(seed)[1]]
    packed = pack(polygons, truncate=False)
    for index, polygon in enumerate(polygons):
        shape = shapely.Polygon(polygon)
        assert packed.box_N4[index].tolist() == list(shape.bounds)
        assert abs(packed.area_N[index]) == pytest.approx(shape.area)
        hull = shapely.convex_hull(shape).area
        if packed.kind_N[index] == kernels.FLAT:
            assert hull == 0
        elif packed.kind_N[index] == kernels.CONVEX:
            assert shape.is_valid
            assert shape.area == pytest.approx(hull)
        else:
            assert not shape.is_valid or shape.area < hull


def test_kinds_by_name() -> None:
    square = [[0, 0], [4, 0], [4, 4], [0, 4]]
    shapes = {
        "square": (square, kernels.CONVEX),
        "backwards": (square[::-1], kernels.CONVEX),
        "doubled vertex": ([*square, [0, 4]], kernels.CONVEX),
        "vertex on an edge": ([[0, 0], [2, 0], *square[1:]], kernels.CONVEX),
        "bow tie": ([[0, 0], [4, 4], [4, 0], [0, 4]], kernels.GENERAL),
        "dent": ([*square, [1, 2]], kernels.GENERAL),
        "pentagram": ([[5, 0], [8, 10], [0, 4], [10, 4], [2, 10]], kernels.GENERAL),
        "spike": ([[0, 0], [9, 0], [4, 0], [4, 4], [0, 4]], kernels.GENERAL),
        "line": ([[0, 0], [4, 4], [2, 2]], kernels.FLAT),
        "point": ([[1, 1]] * 4, kernels.FLAT),
    }
    packed = pack([np.array(points, dtype=np.float64) for points, _ in shapes.values()], truncate=False)
    assert dict(zip(shapes, packed.kind_N.tolist(), strict=True)) == {name: kind for name, (_, kind) in shapes.items()}


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(SEEDS, st.booleans())
def test_intersections_equal_shapely(seed: int, truncate: bool) -> None:
    words, found = polygon_page(seed)
    own = pack([word.polygon_V2 for word in words], truncate)
    others = pack(found, truncate)
    areas = common_areas(own.box_N4, own, np.arange(len(own)), others).matrix(len(others))
    for g in range(len(own)):
        for d in range(len(others)):
            expected = region(own.polygon(g)).intersection(region(others.polygon(d))).area
            assert areas[g, d] == pytest.approx(expected, rel=1e-9, abs=1e-7)


def test_a_self_crossing_outline_that_shapely_makes_valid_wrongly() -> None:
    # Even-odd area .548e3 by counting pixels; `shapely.make_valid(method="linework")` has .596e3.
    points = [[140, 31], [133, 47], [101, 31], [123, 42], [108, 29], [99, 56], [102, 20]]
    polygon = np.array(points, dtype=np.float64)
    cells = np.arange(1 / 2, 60)
    inside = sum(plain_inside(polygon, 90 + x, y) for x in cells for y in cells)
    assert region(polygon).area == pytest.approx(inside, abs=12)
    own, page = pack([polygon], False), pack([np.array([[0.0, 0.0], [200, 0], [200, 200], [0, 200]])], False)
    assert common_areas(own.box_N4, own, np.arange(1), page).area_P == pytest.approx([region(polygon).area])


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.integers(0, 60), st.integers(0, 60))
def test_pairs_are_those_whose_boxes_meet(seed: int, a_count: int, b_count: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (
        np.concatenate([low := rng.integers(0, 300, (count, 2)), low + rng.integers(-1, 80, (count, 2))], axis=1) * 1.0
        for count in (a_count, b_count)
    )
    a[rng.random(a_count) < 0.1] = np.nan
    b[rng.random(b_count) < 0.1, 2] = np.inf
    expected = [
        (i, j)
        for i, (x0, y0, x1, y1) in enumerate(a)
        for j, (u0, v0, u1, v1) in enumerate(b)
        if x0 <= x1 and y0 <= y1 and u0 <= u1 and v0 <= v1 and x0 <= u1 and u0 <= x1 and y0 <= v1 and v0 <= y1
    ]
    starts, partners = meeting(a, b)
    assert [(i, j) for i in range(a_count) for j in partners[starts[i] : starts[i + 1]].tolist()] == expected


@settings(deadline=None, max_examples=50)  # the first example compiles
@given(SEEDS)
def test_inclusion_equals_the_plain_rule_on_borders_too(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for polygon in polygon_page(seed)[1]:
        corners = np.trunc(polygon)
        probes = np.concatenate(
            [corners, (corners + np.roll(corners, 1, 0)) / 2, corners + rng.normal(0, 9, corners.shape)]
        )
        for x, y in probes.tolist():
            assert kernels.contains(corners, 0, len(corners), x, y) == plain_inside(corners, x, y)


def test_borders_belong_to_the_polygon_above_and_left() -> None:
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], dtype=np.float64)
    inside = [kernels.contains(square, 0, 4, x, y) for x, y in [(0.0, 2.0), (2.0, 0.0), (4.0, 2.0), (2.0, 4.0)]]
    assert inside == [True, True, False, False]
