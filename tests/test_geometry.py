"""The bridge between pictures and canvases: exact inverses, exact resizing, and small polygon arithmetic by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal

from detector import geometry
from detector.geometry import (
    BORDER_RGB,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Frame,
    clip_polygon,
    fit_frame,
    is_convex,
    normalise,
    order_quad,
    to_centres,
    transform,
    warp,
    warp_perspective,
)
from detector.types import Float64

SIDES = st.integers(1, 5000)
POINTS = hnp.arrays(np.float64, (8, 2), elements=st.floats(-200, 6000))
RECTANGLE = np.array([[2.0, 1.0], [12.0, 1.0], [12.0, 6.0], [2.0, 6.0]])


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(32, 2048), POINTS)
def test_there_and_back_is_the_identity(width: int, height: int, size: int, points: Float64) -> None:
    frame = fit_frame((width, height), size)
    back = frame.to_image(frame.to_canvas(points), clip=False)
    assert_allclose(back, points, atol=1e-9)
    clipped = frame.to_image(frame.to_canvas(points))
    assert_allclose(clipped, np.clip(points, 0, (width, height)), atol=1e-9)
    assert (clipped >= 0).all() and (clipped <= (width, height)).all()


@settings(deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(-3e-4, 3e-4), POINTS)
def test_perspective_there_and_back(turn: float, tilt: float, points: Float64) -> None:
    matrix = np.array([[np.cos(turn), -np.sin(turn), 30.0], [np.sin(turn), np.cos(turn), -9.0], [tilt / 10, 1e-5, 1.0]])
    frame = Frame(matrix, (640, 480), (512, 512))
    inside = np.clip(points, 0, 2000)
    assert_allclose(frame.to_image(frame.to_canvas(inside), clip=False), inside, atol=1e-3)


@settings(deadline=None)
@given(SIDES, SIDES, st.integers(32, 2048))
def test_fit_frame_pads_right_and_below_only(width: int, height: int, size: int) -> None:
    frame = fit_frame((width, height), size)
    content = geometry.content_size(frame)
    assert max(content) == size and min(content) >= 1
    assert all(c % 32 == 0 and 0 <= c - inner < 32 for c, inner in zip(frame.canvas_wh, content, strict=True))
    # The page's corner lands on the content's corner: rounding is part of the matrix.
    assert_allclose(frame.to_canvas([[width, height]])[0], content, rtol=1e-12)


def test_fit_frame_by_hand() -> None:
    # 1000 x 2000 at 640: scale .32, content 320 x 640, multiples of 32. 333 x 1000: 213.12 -> 213 wide, canvas 224.
    frame = fit_frame((1000, 2000), 640)
    assert frame.canvas_wh == (320, 640)
    assert_array_equal(frame.matrix_33, np.diag([0.32, 0.32, 1.0]))
    narrow = fit_frame((333, 1000), 640)
    assert narrow.canvas_wh == (224, 640) and narrow.matrix_33[0, 0] == 213 / 333
    with pytest.raises(ValueError, match="must be >= 1"):
        fit_frame((0, 10), 640)


def test_warp_is_resize_and_padding() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 30, 3), dtype=np.uint8)
    frame = fit_frame((30, 50), 40)  # content 24 x 40, canvas 32 x 64
    canvas = warp(image, frame)
    assert canvas.shape == (64, 32, 3)
    assert_array_equal(canvas[:40, :24], cv2.resize(image, (24, 40), interpolation=cv2.INTER_AREA))
    assert (canvas[40:] == BORDER_RGB).all() and (canvas[:, 24:] == BORDER_RGB).all()
    same = fit_frame((30, 50), 50)
    assert_array_equal(warp(image, same)[:50, :30], image)
    with pytest.raises(ValueError, match="got"):
        warp(image, fit_frame((31, 50), 40))


def test_warp_with_any_matrix_moves_whole_pixels() -> None:
    # A shift by (3, 2) px in corner coordinates copies pixels and leaves a constant border.
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    canvas = warp(image, Frame(geometry.translation(3.0, 2.0), (20, 20), (32, 32)))
    assert_array_equal(canvas[2:22, 3:23], image)
    assert (canvas[:2] == BORDER_RGB).all() and (canvas[:, :3] == BORDER_RGB).all()


def test_a_mirror_in_corner_coordinates_is_exact() -> None:
    # x -> 20 - x: pixel j covers [j, j + 1], so it lands on pixel 19 - j.
    image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    mirror = np.array([[-1.0, 0.0, 20.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert_array_equal(geometry.warp_perspective(image, mirror, (20, 20)), image[:, ::-1])


def test_normalise_is_the_usual_formula() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    expected = ((image / 255.0 - geometry.IMAGENET_MEAN) / geometry.IMAGENET_STD).transpose(2, 0, 1)
    planes = geometry.normalise(image)
    assert planes.dtype == np.float32 and planes.flags.c_contiguous
    assert_allclose(planes, expected, atol=1e-6)
    assert np.abs(geometry.normalise(np.full((1, 1, 3), BORDER_RGB, dtype=np.uint8))).max() < 0.01


def test_area_and_perimeter_by_hand() -> None:
    assert geometry.area(RECTANGLE) == 50.0 and geometry.perimeter(RECTANGLE) == 30.0
    assert geometry.signed_area(RECTANGLE) == 50.0 and geometry.signed_area(RECTANGLE[::-1]) == -50.0
    assert geometry.area(RECTANGLE + 1e8) == 50.0


@pytest.mark.parametrize(
    ("points", "convex"),
    [
        (RECTANGLE, True),
        (RECTANGLE[::-1], True),
        (RECTANGLE[[0, 0, 1, 2, 3]], True),  # a vertex twice
        (np.array([[0.0, 0.0], [5.0, 0.0], [10.0, 0.0], [10.0, 5.0]]), True),  # three in line
        (RECTANGLE[[0, 1, 3, 2]], False),  # crossed
        (np.array([[0.0, 0.0], [10.0, 0.0], [5.0, 2.0], [5.0, 10.0]]), False),
        (np.array([[np.sin(4 * np.pi * k / 5), np.cos(4 * np.pi * k / 5)] for k in range(5)]), False),  # a pentagram
        (np.zeros((4, 2)), False),
    ],
)
def test_is_convex(points: Float64, convex: bool) -> None:
    assert is_convex(points) is convex


def test_order_quad_begins_top_left_whatever_the_start() -> None:
    slanted = transform(RECTANGLE, np.array([[0.94, -0.34, 0.0], [0.34, 0.94, 0.0], [0.0, 0.0, 1.0]]))
    for corners in (RECTANGLE, slanted):
        for shift in range(4):
            assert_array_equal(order_quad(np.roll(corners, shift, axis=0)), corners)
            assert_array_equal(order_quad(np.roll(corners, shift, axis=0)[::-1]), corners)


@settings(deadline=None)
@given(hnp.arrays(np.float64, (4, 2), elements=st.floats(-50, 150)))
def test_clipping_a_convex_polygon_equals_shapely(points: Float64) -> None:
    # Below 1e-280 shapely itself goes wrong: (1, 60), (8, -1), (1, -1), (2.6e-283, 2.6e-283) gives 30 px^2 too much.
    hull = shapely.MultiPoint(points.round(6)).convex_hull
    if hull.geom_type != "Polygon" or hull.area < 1e-3:
        return
    polygon = np.array(hull.exterior.coords)[:-1]
    clipped = clip_polygon(polygon, (100, 60))
    expected = hull.intersection(shapely.box(0, 0, 100, 60)).area
    assert (geometry.area(clipped) if len(clipped) >= 3 else 0.0) == pytest.approx(expected, abs=1e-6)
    assert (clipped >= 0).all() and (clipped <= (100, 60)).all()


def test_clipping_keeps_what_is_inside_as_it_is() -> None:
    assert clip_polygon(RECTANGLE, (100, 60)) is RECTANGLE
    assert_array_equal(clip_polygon(RECTANGLE, (7, 60)), [[2, 1], [7, 1], [7, 6], [2, 6]])
    assert clip_polygon(RECTANGLE + 200.0, (100, 60)).shape == (0, 2)


def test_warp_and_normalisation_give_the_bits_of_the_plain_calls() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (97, 131, 3), dtype=np.uint8)
    matrix = np.array([[0.9, -0.2, 8.0], [0.25, 1.1, -5.0], [1e-4, -2e-4, 1.0]])
    plain = cv2.warpPerspective(
        image, to_centres(matrix), (120, 90), borderMode=cv2.BORDER_CONSTANT, borderValue=BORDER_RGB
    )
    assert_array_equal(warp_perspective(image, matrix, (120, 90)), plain)
    scale = (1.0 / (255.0 * np.asarray(IMAGENET_STD))).astype(np.float32)
    shift = (np.asarray(IMAGENET_MEAN) / np.asarray(IMAGENET_STD)).astype(np.float32)
    assert_array_equal(normalise(image), (image * scale - shift).transpose(2, 0, 1))
