"""Maps to words: drawn rectangles come back as drawn, scores equal a plain twin, the best are kept."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from shapely import Polygon

from detector.config import Postprocess
from detector.geometry import signed_area
from detector.inference.postprocess import find_candidates, words_from_candidates, words_from_map
from detector.kernels.postprocess import smallest_rectangles

EXACT = Postprocess(unclip_ratio=0.0, min_side_px=0.0)


def blocks_map(blocks, shape=(60, 80), dtype=np.float32):
    """(x0, y0, x1, y1, p) blocks covering pixels [x0, x1) x [y0, y1)."""
    prob = np.zeros(shape, np.float32)
    for x0, y0, x1, y1, p in blocks:
        prob[y0:y1, x0:x1] = p
    return prob if dtype == np.float32 else np.rint(prob * 255).astype(np.uint8)


def turned_map(centre, width, height, angle, side=120):
    """A rectangle turned by `angle` degrees: its pixels (their centres, j + .5 and i + .5, lie inside), and itself."""
    axis = np.array([np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))])
    across = np.array([-axis[1], axis[0]])
    grid = np.stack(np.meshgrid(np.arange(side) + 0.5, np.arange(side) + 0.5), axis=-1) - centre
    inside = (abs(grid @ axis) <= width / 2) & (abs(grid @ across) <= height / 2)
    signs = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
    return inside.astype(np.float32), Polygon(
        [centre + axis * i * width / 2 + across * j * height / 2 for i, j in signs]
    )


@st.composite
def block(draw):
    x0, y0 = draw(st.integers(0, 70)), draw(st.integers(0, 50))
    return x0, y0, draw(st.integers(x0 + 1, 80)), draw(st.integers(y0 + 1, 60)), draw(st.floats(0.5, 1.0))


@settings(max_examples=60, deadline=None)
@given(block(), st.sampled_from([0.0, 1.0, 1.5, 2.0]), st.sampled_from([np.float32, np.uint8]))
def test_a_drawn_rectangle_comes_back(block, ratio, dtype):
    x0, y0, x1, y1, p = block
    found = words_from_map(blocks_map([block], dtype=dtype), EXACT.model_copy(update={"unclip_ratio": ratio}))
    assert len(found.polygons) == 1
    # offset d = area x ratio / perimeter, on every side
    d = (x1 - x0) * (y1 - y0) * ratio / (2 * (x1 - x0 + y1 - y0))
    want = [[x0 - d, y0 - d], [x1 + d, y0 - d], [x1 + d, y1 + d], [x0 - d, y1 + d]]
    assert_allclose(found.polygons[0], want, atol=1e-9)
    assert found.scores_N[0] == pytest.approx(p, abs=1e-6 if dtype == np.float32 else 1 / 510 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.floats(-89.0, 89.0), st.floats(20.0, 60.0), st.floats(8.0, 20.0), st.sampled_from([0.0, 1.5]), st.integers(0, 9)
)
def test_a_turned_rectangle_comes_back(angle, width, height, ratio, seed):
    centre = np.random.default_rng(seed).uniform(58, 62, 2)
    drawn, truth = turned_map(centre, width, height, angle)
    (quad,) = words_from_map(drawn, EXACT.model_copy(update={"unclip_ratio": ratio})).polygons
    assert signed_area(quad) > 0  # clockwise as seen
    edge = quad[1] - quad[0]
    assert abs(np.rad2deg(np.arctan2(edge[1], edge[0]))) <= 45.001  # the first side is the upper one
    d = width * height * ratio / (2 * (width + height))
    grown = truth.buffer(d, join_style="mitre")
    # Each side is known to a pixel's grid.
    assert grown.intersection(Polygon(quad)).area / grown.union(Polygon(quad)).area > 0.85


def test_turned_rectangles_are_met_well_on_average():
    # The measurement of the module's text, in small: .958 of 1500, and the size is right on the whole.
    rng = np.random.default_rng(1)
    ious, sizes = [], []
    for _ in range(150):
        width, height, angle = rng.uniform(10, 80), rng.uniform(2, 14), rng.uniform(-3, 3)
        drawn, truth = turned_map(rng.uniform(60, 61, 2), width, height, angle)
        words = words_from_map(drawn, EXACT.model_copy(update={"unclip_ratio": 1.5})).polygons
        if len(words) != 1:
            continue  # a slanted line under 2 px can fall apart
        grown = truth.buffer(width * height * 1.5 / (2 * (width + height)), join_style="mitre")
        quad = Polygon(words[0])
        ious.append(quad.intersection(grown).area / quad.union(grown).area)
        sizes.append(quad.area / grown.area)
    assert len(ious) > 140
    assert np.mean(ious) > 0.94
    assert np.mean(sizes) == pytest.approx(1.0, abs=0.02)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([np.float32, np.uint8]), st.floats(0.0, 2.0))
def test_scores_equal_a_plain_fill(seed, dtype, smooth):
    # Random blobs of every form: spurs, rings, pinched shapes, single pixels. OpenCV fills, numpy takes the mean.
    noise = np.random.default_rng(seed).random((40, 50), np.float32)
    prob = cv2.GaussianBlur(noise, (0, 0), smooth) if smooth > 0.3 else noise
    prob = (prob - prob.min()) / (prob.max() - prob.min())
    prob = prob if dtype == np.float32 else np.rint(prob * 255).astype(np.uint8)
    values = prob.astype(np.float64) / (1.0 if dtype == np.float32 else 255.0)
    thresh = 0.55
    found = find_candidates(prob, thresh)
    count, labels = cv2.connectedComponents((values > thresh).astype(np.uint8), connectivity=8)
    assert len(found.contours) == count - 1  # one outline a component, none for holes
    for contour, score in zip(found.contours, found.scores_N, strict=True):
        mask = np.zeros(prob.shape, np.uint8)
        cv2.drawContours(mask, [contour.reshape(-1, 1, 2)], -1, 1, cv2.FILLED)
        assert score == pytest.approx(values[mask > 0].mean(), abs=1e-9)
        assert len(set(labels[contour[:, 1], contour[:, 0]])) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 12)), min_size=1, max_size=12))
def test_smallest_rectangle_equals_a_plain_search(points):
    (box,) = smallest_rectangles(np.array(points, np.int32), np.array([len(points)]), np.array([0]))
    cosine, sine = box[4:6]
    assert box[6] == cv2.contourArea(np.array(points, np.int32))
    assert cosine**2 + sine**2 == pytest.approx(1.0)
    assert cosine > 0 and -cosine < sine <= cosine
    # it holds every pixel's centre, and touches the outermost
    local = (np.array(points) + 0.5 - box[:2]) @ np.array([[cosine, -sine], [sine, cosine]])
    assert_allclose(np.abs(local).max(axis=0), box[2:4] / 2, atol=1e-9)
    # no edge of the hull, a line with all points on one side, gives a smaller one
    smallest = np.inf
    for a in np.array(points):
        for b in np.array(points):
            u = np.array([1.0, 0.0]) if (a == b).all() else (b - a) / np.hypot(*(b - a))
            side = (np.array(points) - a) @ np.array([-u[1], u[0]])
            if ((a == b).all() and len(set(points)) > 1) or (side < -1e-9).any():
                continue
            sides = [np.ptp(np.array(points) @ axis) for axis in (u, np.array([-u[1], u[0]]))]
            smallest = min(smallest, sides[0] * sides[1])
    assert box[2] * box[3] <= smallest + 1e-9


def test_threshold_is_exclusive_and_exact_in_bytes():
    # P > thresh: 51 / 255 = .2 exactly is no text at thresh .2, 52 is.
    for value, words in ((51, 0), (52, 1)):
        prob = np.zeros((8, 8), np.uint8)
        prob[2:6, 2:6] = value
        assert len(words_from_map(prob, EXACT.model_copy(update={"thresh": 0.2, "box_thresh": 0.0})).polygons) == words
    # box_thresh is inclusive
    prob = blocks_map([(2, 2, 9, 9, 0.5)])
    for box_thresh, words in ((0.5, 1), (0.5001, 0)):
        assert len(words_from_map(prob, EXACT.model_copy(update={"box_thresh": box_thresh})).polygons) == words


def test_thin_lines_stay_and_specks_go():
    # Words of 8 px text, shrunk, are one or two pixels high; a speck of 2 x 2 px covers less than 3 x 3.
    prob = blocks_map([(5, 10, 45, 11, 0.9), (5, 20, 45, 22, 0.8), (60, 40, 62, 42, 0.9), (70, 50, 71, 51, 1.0)])
    found = words_from_map(prob, Postprocess(unclip_ratio=0.0))
    assert [polygon.tolist() for polygon in found.polygons] == [
        [[5, 10], [45, 10], [45, 11], [5, 11]],
        [[5, 20], [45, 20], [45, 22], [5, 22]],
    ]


def test_best_come_first_and_stay():
    blocks = [(2, 2, 12, 8, 0.6), (2, 12, 12, 18, 0.9), (2, 22, 12, 28, 0.7), (2, 32, 12, 38, 0.9), (20, 2, 30, 8, 0.6)]
    found = words_from_map(blocks_map(blocks), EXACT)
    # equal scores: from the top, then from the left
    assert [tuple(p[0]) for p in found.polygons] == [(2, 12), (2, 32), (2, 22), (2, 2), (20, 2)]
    assert found.scores_N.tolist() == pytest.approx([0.9, 0.9, 0.7, 0.6, 0.6])
    few = words_from_map(blocks_map(blocks), EXACT.model_copy(update={"max_candidates": 2}))
    assert [tuple(p[0]) for p in few.polygons] == [(2, 12), (2, 32)]


def test_small_ones_do_not_use_up_the_candidates():
    prob = blocks_map([(2, 2, 3, 3, 1.0), (6, 2, 7, 3, 1.0), (2, 12, 12, 18, 0.6)])
    assert len(words_from_map(prob, Postprocess(max_candidates=1)).polygons) == 1


def test_holes_are_no_words_and_islands_in_them_are():
    prob = blocks_map([(5, 5, 45, 45, 0.9), (10, 10, 40, 40, 0.0), (20, 20, 30, 26, 0.8)])
    found = words_from_map(prob, EXACT)
    assert sorted(p[0].tolist() for p in found.polygons) == [[5, 5], [20, 20]]


def test_candidates_serve_every_rule():
    noise = cv2.GaussianBlur(np.random.default_rng(0).random((80, 80), np.float32), (0, 0), 2)
    prob = (noise - noise.min()) / (noise.max() - noise.min())
    shared = find_candidates(prob, 0.5)
    for box_thresh in (0.5, 0.6, 0.7):
        for ratio in (1.0, 1.5):
            rule = Postprocess(thresh=0.5, box_thresh=box_thresh, unclip_ratio=ratio)
            one, two = words_from_map(prob, rule), words_from_candidates(shared, rule)
            assert_array_equal(one.scores_N, two.scores_N)
            assert len(one.polygons) == len(two.polygons)
            assert all(np.array_equal(a, b) for a, b in zip(one.polygons, two.polygons, strict=True))


def test_polygons_follow_the_outline():
    # An L of 40 x 10 and 10 x 30 px; grown by half a pixel and its own offset with round corners (shapely as the twin).
    prob = blocks_map([(10, 10, 50, 20, 0.9), (10, 10, 20, 40, 0.9)])
    for ratio in (0.0, 1.0):
        rule = EXACT.model_copy(update={"shape": "polygon", "unclip_ratio": ratio})
        (polygon,) = words_from_map(prob, rule).polygons
        assert signed_area(polygon) > 0
        ell = Polygon([(10.5, 10.5), (49.5, 10.5), (49.5, 19.5), (19.5, 19.5), (19.5, 39.5), (10.5, 39.5)])
        # 40 x 10 + 10 x 20 = 600 pixels (OpenCV's outline cuts the inner corner), outline 2 (40 + 30) = 140
        want = ell.buffer(0.5 + 600 * ratio / 140)
        found = Polygon(polygon)
        assert found.symmetric_difference(want).area < 0.02 * want.area
    # a line has no inside: its rectangle stands in
    line = words_from_map(blocks_map([(5, 10, 45, 11, 0.9)]), EXACT.model_copy(update={"shape": "polygon"}))
    assert line.polygons[0].tolist() == [[5, 10], [45, 10], [45, 11], [5, 11]]


def test_empty_and_wrong_maps():
    for prob in (np.zeros((9, 9), np.float32), np.zeros((9, 9), np.uint8)):
        found = words_from_map(prob, Postprocess())
        assert found.polygons == ()
        assert found.scores_N.shape == (0,)
    with pytest.raises(ValueError, match="two-dimensional"):
        words_from_map(np.zeros((1, 9, 9), np.float32), Postprocess())
    with pytest.raises(ValueError, match="float64"):
        words_from_map(np.zeros((9, 9)), Postprocess())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="finite"):
        words_from_map(np.full((9, 9), np.nan, np.float32), Postprocess())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.4, 4.0), st.floats(0.3, 0.6))
def test_no_contour_holds_more_pixels_than_its_rectangle_grown_by_half_a_pixel(seed, smooth, thresh):
    """Why a contour of enough pixels needs no rectangle to pass `min_side_px`."""
    prob = cv2.GaussianBlur(np.random.default_rng(seed).random((60, 90), np.float32), (0, 0), smooth)
    found = find_candidates((prob - prob.min()) / (prob.max() - prob.min()), thresh)
    boxes = smallest_rectangles(found.points_P2, found.ends_N, np.arange(len(found.ends_N)))
    assert np.all(found.pixels_N <= (boxes[:, 2] + 1.0) * (boxes[:, 3] + 1.0) + 1e-9)
