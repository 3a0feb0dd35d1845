"""Offsets: the targets' shrink is undone exactly on paper, and far better than by a constant ratio on drawn words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shapely import Polygon

from benchmarks.pages import rectangle
from detector.config import Postprocess, Targets
from detector.data.targets import targets
from detector.inference.postprocess import words_from_map
from detector.inference.unclip import inverse, missing, offsets

sides = st.floats(1.0, 500.0)


@given(sides, sides, st.floats(0.2, 0.95))
def test_the_root_is_the_shrink_of_a_rectangle(width, height, ratio):
    # W x H shrunk by D = W H (1 - r^2) / (2 (W + H)) has sides W - 2 D and H - 2 D; what is left gives D back.
    shrunk_by = width * height * (1 - ratio**2) / (2 * (width + height))
    inner = width - 2 * shrunk_by, height - 2 * shrunk_by
    if min(inner) <= 1e-3 * max(inner):
        return  # shrunk to a line: nothing is left to measure
    found = inverse(np.array([inner[0] * inner[1]]), np.array([2 * sum(inner)]), ratio)
    assert found[0] == pytest.approx(shrunk_by, rel=1e-9)


def test_the_root_by_hand():
    # 100 x 20 px, r = .4: D = 2000 x .84 / 240 = 7; 86 x 6 px are left: a = 516, l = 184;
    # 4 x 1.16 D^2 + .16 x 184 D = .84 x 516: 227.36 + 206.08 = 433.44 at D = 7.
    assert inverse(np.array([516.0]), np.array([184.0]), 0.4)[0] == pytest.approx(7.0, rel=1e-14)


@given(st.floats(0.0, 1e5), st.floats(0.0, 1e4), st.floats(0.05, 0.95))
def test_the_root_solves_its_equation(size, around, ratio):
    d = inverse(np.array([size]), np.array([around]), ratio)[0]
    grown, length = size + around * d + 4 * d**2, around + 8 * d
    assert d >= 0.0
    assert d * length == pytest.approx(grown * (1 - ratio**2), rel=1e-9, abs=1e-9)


@given(st.floats(0.0, 1e4), st.floats(1.0, 1e3), st.floats(0.0, 50.0), st.floats(0.0, 3.0))
def test_the_ratio_is_that_of_the_grown_outline(size, around, more, ratio):
    args = np.array([size]), np.array([around]), np.array([size + more])
    grow = missing(*args)[0]
    grown, length = size + around * grow + 4 * grow**2, around + 8 * grow
    assert 0.0 <= grow <= 0.5
    assert grow == 0.5 or grown == pytest.approx(size + more, rel=1e-9, abs=1e-6)
    assert offsets(*args, Postprocess(unclip_ratio=ratio))[0] == pytest.approx(grow + grown * ratio / length)


@pytest.mark.parametrize("shape", ["quad", "polygon"])
@pytest.mark.parametrize("most_turned", [0.0, 0.5])
def test_drawn_words_come_back_far_better_than_with_a_constant_ratio(shape, most_turned):
    rng = np.random.default_rng(3)
    truth = [
        rectangle(
            np.array([75.0 + 150 * (n % 4), 45.0 + 90 * (n // 4)]) + rng.uniform(0, 1, 2),
            rng.uniform((50, 16), (120, 30)),
            rng.uniform(-most_turned, most_turned),
        )
        for n in range(32)
    ]
    maps = targets(truth, [False] * len(truth), (720, 600), Targets())
    means = {}
    for unclip in ("ratio", "inverse"):
        rule = Postprocess(unclip=unclip, shape=shape, shrink_ratio=Targets().shrink_ratio, min_side_px=1.0)
        found = [Polygon(polygon) for polygon in words_from_map(maps.prob_HW.astype(np.float32), rule).polygons]
        assert len(found) == len(truth)
        overlaps = [max(f.intersection(word).area / f.union(word).area for f in found) for word in map(Polygon, truth)]
        means[unclip] = np.mean(overlaps)
    assert means["inverse"] > 0.93
    assert means["inverse"] > means["ratio"] + 0.06, means


def test_a_line_one_pixel_high_grows_as_well():
    # 41 x 1 px: the contour is 40 x 0 px; its height counts as 1/3, so a = 40 / 3, l = 80 + 2 / 3.
    prob = np.zeros((30, 60), np.float32)
    prob[15, 10:51] = 1.0
    want = inverse(np.array([40 / 3]), np.array([80 + 2 / 3]), 0.4)[0]
    (quad,) = words_from_map(prob, Postprocess(unclip="inverse")).polygons
    assert quad[0] == pytest.approx([10.5 - want, 15.5 - 1 / 6 - want])
    assert quad[2] == pytest.approx([50.5 + want, 15.5 + 1 / 6 + want])
    assert want > 0.5
