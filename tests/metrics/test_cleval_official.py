"""`official` against the published scorer, count by count."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from metrics_oracles import official
from metrics_pages import quad_page, variations

from detector.data.formats import read_words
from detector.metrics.cleval import Counts, cleval, ground_truth
from detector.types import Float64, Word


def box(x0: float, y0: float, x1: float, y1: float) -> Float64:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], dtype=np.float64)


# Fixed seeds, since the published scorer's clipper (GPC) crashes the process on some self-crossing don't-care words.
@pytest.mark.parametrize("block", range(8))
def test_random_quads_have_every_count_of_the_published_scorer(block: int) -> None:
    for seed in range(100 * block, 100 * block + 100):
        words, quads = quad_page(seed)
        assert cleval(words, quads, "official") == official(words, quads), f"seed {seed}"


@pytest.mark.parametrize("data", ["icdar2015", "sroie_mini"])
@pytest.mark.parametrize("with_text", [True, False])
def test_real_boxes_have_every_count_of_the_published_scorer(real_data: Path, data: str, with_text: bool) -> None:
    for number, words in enumerate(list(read_words(real_data / data / "val.json").values())[:12]):
        rng = np.random.default_rng(number)
        if not with_text:
            words = tuple(Word(word.id, word.polygon_V2, None, word.ignore) for word in words)
        quads = [quad for word in words if rng.random() < 0.95 for quad in variations(rng, word.polygon_V2)]
        merged = [
            np.array([a.polygon_V2[0], b.polygon_V2[1], b.polygon_V2[2], a.polygon_V2[3]])
            for a, b in pairwise(words)
            if rng.random() < 0.1
        ]
        assert cleval(words, quads + merged, "official") == official(words, quads + merged)


def test_an_area_precision_of_exactly_three_tenths_matches() -> None:
    # Of a detection of 10 x 10, 10 x 3 lie on the word: 30 / 100 as float32 is not below .3 as float32.
    word = Word("a", box(0, 0, 10, 3), "abc")
    assert cleval([word], [box(0, 0, 10, 10)], "official").recall == 1.0
    assert cleval([word], [box(0, 0, 10, 10.9)], "official").recall == 1.0  # vertices are truncated
    assert cleval([word], [box(0, 0, 10, 11)], "official").recall == 0.0  # 30 / 110


def test_pages_without_words_or_detections_score_nothing() -> None:
    word = Word("a", box(0, 0, 30, 10), "abc")
    assert cleval([], [], "official") == Counts()
    # ar = 3.00: one over it is .33, round(.83) = 1 character that is not there
    assert cleval([], [box(0, 0, 30, 10)], "official") == Counts(chars_det=1, chars_fp=1)
    assert cleval([word], [], "official") == Counts(chars_gt=3)
    assert (Counts().recall, Counts().precision, Counts().hmean) == (0.0, 0.0, 0.0)


def test_a_dont_care_word_is_less_the_words_over_it() -> None:
    # The don't-care strip is 100 x 10; the word takes 40 x 10 of it. A detection on the rest leaves the count; one on
    # the word matches it, although it lies on the strip as well.
    strip, word = Word("a", box(0, 0, 100, 10), None, ignore=True), Word("b", box(0, 0, 40, 10), "abcd")
    counts = cleval([strip, word], [box(50, 0, 100, 10), box(0, 0, 40, 10)], "official")
    assert counts == Counts(chars_gt=4, chars_det=4, chars_hit=4)
    assert counts == official([strip, word], [box(50, 0, 100, 10), box(0, 0, 40, 10)])


def test_lengths_follow_the_text_and_an_empty_text_has_none() -> None:
    words = [Word(str(k), box(0, 20 * k, 50, 20 * k + 10), text) for k, text in enumerate([None, "", "ab"])]
    # without a text: (50 + 1e-5) / (10 + 1e-5) is just below 5, round(5.499996) = 5; "" has no characters, as in cleval
    assert ground_truth(words, "official").length_G.tolist() == [5, 0, 2]


def test_polygons_of_other_than_four_vertices_are_scored_too() -> None:
    hexagon = np.array([[0, 0], [30, 2], [60, 0], [60, 10], [30, 12], [0, 10]], dtype=np.float64)
    triangle = np.array([[0, 40], [60, 40], [60, 60]], dtype=np.float64)
    words = [Word("a", hexagon, "abcdef"), Word("b", triangle, "abc")]
    counts = cleval(words, [hexagon, triangle], "official")
    assert (counts.chars_gt, counts.chars_hit, counts.hmean) == (9, 9, 1.0)
