"""DBNet's training maps against the plain peer: shapely and clipper offsets, distances to every edge at every pixel."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from benchmarks.harness import Scale
from benchmarks.pages import words as page_words
from benchmarks.peers.plain_targets import plain_targets
from detector.config import Targets
from detector.data import formats
from detector.data.targets import Maps, shrink, targets
from detector.geometry import area, fit_frame, is_convex, perimeter
from detector.types import Float64

HW = (60, 90)
RULE = Targets()


def assert_equal(ours: Maps, plain: Maps) -> None:
    assert_array_equal(ours.prob_HW, plain.prob_HW)
    assert_array_equal(ours.prob_mask_HW, plain.prob_mask_HW)
    assert_allclose(ours.thresh_HW, plain.thresh_HW, atol=1e-6)
    assert_array_equal(ours.thresh_mask_HW, plain.thresh_mask_HW)
    assert ours.masked == plain.masked
    for name in ("prob_HW", "prob_mask_HW", "thresh_mask_HW"):
        assert getattr(ours, name).dtype == np.bool_
    assert ours.thresh_HW.dtype == np.float32


@st.composite
def turned_rectangles(draw: st.DrawFn) -> Float64:
    w, h = draw(st.floats(4, 50)), draw(st.floats(3, 25))
    angle, wobble = draw(st.floats(-3.2, 3.2)), draw(st.floats(0, 0.2))
    corners = np.array([[-w, -h], [w, -h], [w, h * (1 - wobble)], [-w * (1 - wobble), h]]) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = draw(st.tuples(st.floats(-10, 100), st.floats(-10, 70)))
    return (corners @ turn.T + centre)[:: draw(st.sampled_from([1, -1]))]


@st.composite
def stars(draw: st.DrawFn) -> Float64:
    count = draw(st.integers(3, 9))
    radii = np.array(draw(st.lists(st.floats(4, 30), min_size=count, max_size=count)))
    angles = 2 * np.pi * (np.arange(count) + draw(st.floats(0, 1))) / count
    centre = draw(st.tuples(st.floats(0, 90), st.floats(0, 60)))
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1) + centre


@settings(deadline=None)  # the first example loads or compiles the loops
@given(st.lists(st.tuples(turned_rectangles(), st.sampled_from([False, False, True])), max_size=5))
def test_quads_equal_the_plain_twin(words: list[tuple[Float64, bool]]) -> None:
    polygons, ignore = [word[0] for word in words], [word[1] for word in words]
    assert_equal(targets(polygons, ignore, HW, RULE), plain_targets(polygons, ignore, HW, RULE))


@settings(deadline=None)
@given(st.lists(stars(), max_size=3))
def test_other_polygons_equal_the_plain_twin(polygons: list[Float64]) -> None:
    ignore = [False] * len(polygons)
    assert_equal(targets(polygons, ignore, HW, RULE), plain_targets(polygons, ignore, HW, RULE))


def test_one_word_by_hand() -> None:
    # 40 x 20 at (10, 10): area 800, perimeter 120, D = 800 * .84 / 120 = 5.6. Shrunk: x 15.6..44.4, y 15.6..24.4,
    # so columns 15..44 and rows 15..24 are painted.
    word = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 30.0], [10.0, 30.0]])
    maps = targets([word], [False], HW, RULE)
    expected = np.zeros(HW, np.float32)
    expected[15:25, 15:45] = 1
    assert_array_equal(maps.prob_HW, expected)
    assert maps.prob_mask_HW.min() == 1
    # At column 30 the pixel of row 9 has its centre .5 px above the outline: .3 + .4 (1 - .5 / 5.6). Row 4: 5.5 px.
    assert maps.thresh_HW[9, 30] == pytest.approx(0.3 + 0.4 * (1 - 0.5 / 5.6), abs=1e-6)
    assert maps.thresh_HW[4, 30] == pytest.approx(0.3 + 0.4 * (1 - 5.5 / 5.6), abs=1e-6)
    # Row 3 is 6.5 px away; the middle of the word is 10 px from every side, yet judged.
    assert maps.thresh_HW[3, 30] == pytest.approx(0.3) and maps.thresh_mask_HW[3, 30] == 0
    assert maps.thresh_HW[19, 30] == pytest.approx(0.3) and maps.thresh_mask_HW[19, 30] == 1
    # The dilated corner is round: (5.5, 5.5) is 6.36 px from the corner, (6.5, 6.5) is 4.95 px.
    assert maps.thresh_mask_HW[5, 5] == 0 and maps.thresh_mask_HW[6, 6] == 1


def test_a_page_without_text() -> None:
    maps = targets([], [], HW, RULE)
    assert maps.prob_HW.sum() == 0 and maps.thresh_mask_HW.sum() == 0 and maps.prob_mask_HW.min() == 1
    assert_allclose(maps.thresh_HW, 0.3, atol=1e-7)


def test_text_wins_over_dont_care() -> None:
    word = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 30.0], [10.0, 30.0]])
    everything = np.array([[0.0, 0.0], [90.0, 0.0], [90.0, 60.0], [0.0, 60.0]])
    for order in (1, -1):
        maps = targets([word, everything][::order], [False, True][::order], HW, RULE)
        assert_array_equal(maps.prob_mask_HW, maps.prob_HW)
        assert maps.prob_HW.sum() == 300 and maps.masked == 0


def test_thin_words_are_masked_and_counted() -> None:
    thin = np.array([[10.0, 10.0], [50.0, 10.0], [50.0, 11.9], [10.0, 11.9]])
    maps = targets([thin], [False], HW, RULE)
    assert maps.masked == 1 and maps.prob_HW.sum() == 0 and maps.thresh_mask_HW.sum() == 0
    assert maps.prob_mask_HW[10:12, 10:50].max() == 0
    kept = targets([thin], [False], HW, Targets(min_side_px=0.0))
    assert kept.masked == 0 and kept.prob_HW.sum() > 0


def test_a_crossed_outline_does_not_break_anything() -> None:
    bow = np.array([[10.0, 10.0], [50.0, 30.0], [50.0, 10.0], [10.0, 34.0]])
    maps = targets([bow], [False], HW, RULE)
    assert maps.prob_HW.max() == 1 or maps.masked == 1


@settings(deadline=None)
@given(stars())
def test_a_convex_word_never_vanishes(polygon: Float64) -> None:
    # The inradius of a convex figure is at least area / perimeter, and D is .84 of that.
    if is_convex(polygon):
        parts = shrink(polygon, area(polygon) * 0.84 / perimeter(polygon))
        assert len(parts) == 1 and area(parts[0]) > 0


def test_real_words_leave_positive_pixels(real_data: Path) -> None:
    folder = real_data / "sroie_mini"
    pages = formats.read_annotations(folder / "val.json", folder / "images").pages
    words = lost = 0
    for page in pages:
        frame = fit_frame(formats.image_size(page.path), 1024)
        polygons = [frame.to_canvas(word.polygon_V2) for word in page.words]
        maps = targets(polygons, [False] * len(polygons), frame.canvas_wh[::-1], RULE)
        for polygon in polygons:
            (left, top), (right, bottom) = polygon.min(axis=0).astype(int), np.ceil(polygon.max(axis=0)).astype(int)
            lost += not maps.prob_HW[max(0, top) : bottom, max(0, left) : right].any()
            words += 1
    assert words == 813 and lost == 0


def test_the_plain_peer_is_near_doctr() -> None:
    # docTR cuts vertices and offsets to whole pixels: borders lie up to a pixel elsewhere, and nothing more.
    builder = pytest.importorskip("benchmarks.peers.doctr_targets", reason="python-doctr is not installed")
    words = page_words(Scale(256, 8))
    plain = plain_targets([word.polygon_V2 for word in words], [False] * 8, (256, 256), RULE)
    prob, thresh = builder.maps(words, 256)
    assert (plain.prob_HW != prob).sum() < 0.1 * plain.prob_HW.sum()
    apart = cv2.erode((plain.prob_HW != prob).astype(np.uint8), np.ones((3, 3), np.uint8))
    assert not apart.any()
    assert np.abs(plain.thresh_HW - thresh)[plain.thresh_mask_HW].mean() < 0.03
