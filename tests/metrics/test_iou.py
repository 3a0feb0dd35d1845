"""The ICDAR 2015 protocol: cases by hand, and the protocol's own loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracles import iou_plain
from metrics_pages import quad

from detector.metrics.cleval import Score
from detector.metrics.iou import IouCounts, iou, iou_pairs, iou_score
from detector.types import Float64, Word


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


def test_a_half_is_not_above_a_half() -> None:
    word = Word("a", box(0, 0, 10, 10))
    assert iou([word], [box(0, 0, 10, 5)]) == IouCounts(gt=1, det=1, matched=0)  # 50 / 100
    assert iou([word], [box(0, 0, 10, 5.1)]) == IouCounts(gt=1, det=1, matched=1)  # 51 / 100: nothing is truncated
    assert iou([word], [box(0, 0, 10, 7)], threshold=0.7) == IouCounts(gt=1, det=1, matched=0)


def test_one_to_one_takes_the_first_pair_above() -> None:
    # Both detections fit the first word; the first of the list is taken, the second is too far from the other word.
    words = [Word("a", box(0, 0, 10, 10)), Word("b", box(0, 8, 10, 18))]
    assert iou(words, [box(0, 1, 10, 10), box(0, 0, 10, 10)]) == IouCounts(gt=2, det=2, matched=1)


def test_detections_on_dont_care_words_leave_the_count() -> None:
    words = [Word("a", box(0, 0, 10, 10), "x", ignore=True), Word("b", box(20, 0, 30, 10))]
    # 60 of 100 px lie on it: left out; 50 of 100: not more than half, stays in.
    counts = iou(words, [box(0, 4, 10, 14), box(0, 5, 10, 15), box(20, 0, 30, 10)])
    assert counts == IouCounts(gt=1, det=2, matched=1)
    assert (counts.recall, counts.precision, counts.hmean) == (1.0, 0.5, pytest.approx(2 / 3))


def test_empty_pages_follow_the_protocol() -> None:
    assert iou([], []) == IouCounts()
    assert (IouCounts().recall, IouCounts().precision) == (1.0, 1.0)
    assert (IouCounts(det=2).recall, IouCounts(det=2).precision) == (1.0, 0.0)
    assert (IouCounts(gt=2).recall, IouCounts(gt=2).precision, IouCounts(gt=2).hmean) == (0.0, 0.0, 0.0)
    assert iou([Word("a", box(0, 0, 9, 9))], []) == IouCounts(gt=1)
    assert iou([Word("a", box(0, 0, 9, 9), ignore=True)], [box(50, 50, 60, 60)]) == IouCounts(det=1)


def test_broken_polygons_count_and_match_nothing() -> None:
    word = Word("a", box(0, 0, 9, 9))
    assert iou([word], [np.zeros((0, 2)), np.zeros((2, 2)), box(3, 3, 3, 3)]) == IouCounts(gt=1, det=3)


def test_a_set_is_scored_by_its_sums() -> None:
    # R = (1 + 2) / (2 + 2), P = (1 + 2) / (1 + 5), H = 2 x .75 x .5 / 1.25 = .6; the empty page adds nothing.
    score = iou_score([IouCounts(2, 1, 1), IouCounts(2, 5, 2), IouCounts()])
    assert score == Score(pytest.approx(0.75), pytest.approx(0.5), pytest.approx(0.6))
    assert iou_score([]) == iou_score([IouCounts()]) == Score(0.0, 0.0, 0.0)


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_random_pages_equal_the_protocols_loops(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [
        Word(str(k), quad(rng, ("upright", "turned")[k % 2], 150), None, bool(rng.random() < 0.3))
        for k in range(rng.integers(0, 9))
    ]
    near = [word.polygon_V2 + rng.normal(0, 3, 2) for word in words for _ in range(rng.integers(0, 3))]
    found = [*near, *(quad(rng, "turned", 150) for _ in range(3))]
    pairs, counts = iou_plain(words, found)
    assert (iou_pairs(words, found), tuple(iou(words, found).as_row())) == (pairs, counts)
