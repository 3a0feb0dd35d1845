"""The search against the plain way, one rule at a time; choices against hand-made tables."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config import Postprocess
from detector.geometry import fit_frame
from detector.inference.predict import PageMap, words_of_page
from detector.metrics.cleval import Counts, cleval
from detector.types import Float64, Page, Word
from orchestrator.evaluation.sensitivity import sensitivity
from orchestrator.evaluation.thresholds import (
    Table,
    choose,
    counts_row,
    flat_top,
    hmean_of,
    neighbours,
    score_rules,
    search,
    split,
)

RULES = tuple(
    Postprocess(thresh=thresh, box_thresh=box, unclip_ratio=unclip, shape=shape)
    for thresh, box, unclip, shape in product((0.2, 0.4), (0.3, 0.5, 0.7), (0.0, 1.5), ("quad", "polygon"))
)


def drawn(boxes: list[tuple[int, int, int, int, int]], size: int = 96) -> tuple[Page, PageMap]:
    """A page at twice the map's size, its words where the boxes (x, y, w, h, level) are drawn on the map."""
    prob_HW = np.zeros((size, size), dtype=np.uint8)
    words = []
    for number, (x, y, w, h, level) in enumerate(boxes):
        prob_HW[y : y + h, x : x + w] = level
        corners = 2.0 * np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], dtype=np.float64)
        words.append(Word(str(number), corners))
    page = Page("page.png", Path("page.png"), tuple(words))
    return page, PageMap(prob_HW, fit_frame((2 * size, 2 * size), size, multiple=1))


boxes = st.lists(
    st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(2, 30), st.integers(2, 14), st.integers(40, 255)),
    max_size=8,
)


@given(boxes)
@settings(max_examples=40, deadline=None)
def test_search_equals_one_rule_at_a_time(drawing: list[tuple[int, int, int, int, int]]) -> None:
    page, page_map = drawn(drawing)
    plain = [cleval(page.words, words_of_page(page_map, rule).polygons) for rule in RULES]
    assert score_rules(page_map, page, RULES, "competition") == plain


def test_a_faint_word_needs_a_low_threshold() -> None:
    # Level 90 / 255 = .35: found at thresh .2 with box_thresh .3, lost at thresh .4 and at box_thresh .5.
    page, page_map = drawn([(10, 10, 40, 10, 255), (10, 40, 40, 10, 90)])
    rules = [Postprocess(thresh=t, box_thresh=b, unclip_ratio=0.0) for t, b in ((0.2, 0.3), (0.4, 0.3), (0.2, 0.5))]
    table = search(lambda name: page_map, [page, page], rules, "competition", threads=2)
    assert table.hmean_RN[0] == pytest.approx([1.0, 1.0])
    # One of two words of 4 centres each: recall 1/2, precision 1, H = 2/3.
    assert table.hmean_RN[1:] == pytest.approx(2 / 3)
    choice = choose((table,))
    assert choice.rule == rules[0]
    assert choice.crossfitted.mean("hmean") == pytest.approx(1.0)


def test_no_rules_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 and 1"):
        search(lambda name: drawn([])[1], [drawn([])[0]], [], "competition")


def counts_of(hmean: float) -> Counts:
    """Counts with recall = precision = H in steps of 1 / 1000."""
    return Counts(chars_gt=1000, chars_det=1000, chars_hit=round(1000 * hmean))


def table_of(hmean_RN: Float64, rules: tuple[Postprocess, ...]) -> Table:
    names = tuple(f"{index}.png" for index in range(hmean_RN.shape[1]))
    return Table(rules, names, np.stack([counts_row([counts_of(value) for value in row]) for row in hmean_RN]))


def grid(*thresholds: float) -> tuple[Postprocess, ...]:
    return tuple(Postprocess(thresh=thresh) for thresh in thresholds)


def test_ways_to_unclip_are_no_neighbours_and_do_not_part_each_other() -> None:
    # The ratio rules' shrink_ratio, .4, lies between the steps .35 and .45 and must not count as one.
    inverse = [Postprocess(unclip="inverse", shrink_ratio=r) for r in (0.35, 0.45)]
    ratio = [Postprocess(unclip_ratio=r) for r in (1.5, 2.0)]
    assert neighbours([*inverse, *ratio]).toarray().astype(int).tolist() == [
        [1, 1, 0, 0],
        [1, 1, 0, 0],
        [0, 0, 1, 1],
        [0, 0, 1, 1],
    ]


def test_neighbours_are_one_step_apart_in_every_knob() -> None:
    rules = (*grid(0.1, 0.2, 0.3), Postprocess(thresh=0.2, shape="polygon"), Postprocess(thresh=0.3, box_thresh=0.9))
    assert neighbours(rules).toarray().astype(int).tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 1],
        [0, 1, 1, 0, 1],
        [0, 0, 0, 1, 0],
        [0, 1, 1, 0, 1],
    ]


def test_the_flat_top_is_preferred_to_a_lone_peak() -> None:
    # A peak of .901 between .80s against a plateau of .900: the peak's lead of .001 scatters by more than that.
    scatter = np.array([0.02, -0.02, 0.0, 0.0])
    means = np.array([0.80, 0.901, 0.80, 0.90, 0.90, 0.90])
    table = np.repeat(means[:, None], 4, axis=1)
    table[1] += scatter
    index, top = flat_top(table, neighbours(grid(0.1, 0.2, 0.3, 0.4, 0.5, 0.6)))
    # Averages over neighbours: peak (.8 + .901 + .8) / 3; .4: (.8 + .9 + .9) / 3; .5: .9; .6: .9 - the first wins.
    assert index == 4
    assert top == 4


def test_a_sure_peak_is_taken() -> None:
    table = np.repeat(np.array([[0.80], [0.95], [0.80], [0.90], [0.90], [0.90]]), 4, axis=1)
    assert flat_top(table, neighbours(grid(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))) == (1, 1)


def test_cross_fitting_scores_each_image_under_the_rule_of_the_others() -> None:
    # 4 images in 2 parts. Rule 0 is right on part 0 and wrong on part 1, rule 1 the other way round. So each part is
    # scored under the rule that fails there: .5, although either rule shows .7 on all.
    part_N = split(4, 2, seed=0)
    hmean = np.where(part_N[None, :] == np.array([[0], [1]]), 0.9, 0.5)
    choice = choose((table_of(hmean, grid(0.1, 0.9)),), parts=2, seed=0)
    assert choice.by_part == ((1, 0), (0, 0))
    assert choice.crossfitted.stat_N("hmean") == pytest.approx([0.5] * 4)
    assert choice.shown.mean("hmean") == pytest.approx(0.7)


def test_the_better_table_is_chosen_and_of_equal_ones_the_first() -> None:
    rules = grid(0.1, 0.2)
    low, high = table_of(np.full((2, 5), 0.8), rules), table_of(np.full((2, 5), 0.9), rules)
    assert choose((low, high)).table == 1
    assert choose((high, high)).table == 0


def test_a_search_over_noise_gains_nothing_cross_fitted() -> None:
    # 200 rules of equal worth on 60 images: the best shows 2.7 sd / sqrt(60) more, cross-fitted ones nothing.
    noise = np.random.default_rng(0).normal(0.85, 0.05, (200, 60)).clip(0, 1)
    choice = choose((table_of(noise, tuple(Postprocess(thresh=(i + 1) / 300) for i in range(200))),))
    assert choice.shown.mean("hmean") > 0.85 + 1.0 * 0.05 / np.sqrt(60)
    assert abs(choice.crossfitted.mean("hmean") - 0.85) < 2.5 * 0.05 / np.sqrt(60)


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 5))
def test_parts_cover_every_image_evenly(images: int, parts: int, seed: int) -> None:
    sizes = np.bincount(split(images, parts, seed))
    assert sizes.sum() == images and sizes.max() - sizes.min() <= 1 and len(sizes) == min(parts, images)


def test_a_single_image_is_chosen_on_itself() -> None:
    choice = choose((table_of(np.array([[0.5], [0.9]]), grid(0.1, 0.2)),))
    assert choice.crossfitted.mean("hmean") == pytest.approx(0.9)


counts = st.builds(Counts, *[st.integers(0, 400)] * 9)


@given(st.lists(counts, min_size=1, max_size=20))
@settings(deadline=None)
def test_scores_of_rows_are_those_of_counts(found: list[Counts]) -> None:
    assert hmean_of(counts_row(found)).tolist() == [count.hmean for count in found]


def test_parts_may_be_given() -> None:
    # Folds of a training: images 0 and 2 in one, 1 and 3 in the other; each is scored under the other's rule.
    hmean = np.array([[0.9, 0.5, 0.9, 0.5], [0.5, 0.9, 0.5, 0.9]])
    choice = choose((table_of(hmean, grid(0.1, 0.9)),), part_N=np.array([0, 1, 0, 1]))
    assert choice.by_part == ((1, 0), (0, 0))
    assert choice.crossfitted.stat_N("hmean") == pytest.approx([0.5] * 4)


def test_a_knob_that_does_nothing_is_said_to() -> None:
    # The words' scores are 1 and .35 (level 90): box_thresh matters between .3 and .5 and nowhere else, unclip nowhere
    # at all where nothing moves out (the two ratios are both 0 times an area); thresh .2 finds both words, .4 one.
    page, page_map = drawn([(10, 10, 40, 10, 255), (10, 40, 40, 10, 90)])
    rules = [
        Postprocess(thresh=thresh, box_thresh=box, unclip_ratio=0.0, shape=shape)
        for thresh, box, shape in product((0.2, 0.4), (0.1, 0.2, 0.3, 0.5, 0.7), ("quad", "polygon"))
    ]
    table = search(lambda name: page_map, [page] * 10, rules, "competition", threads=1)
    found = {knob.name: knob for knob in sensitivity(table, rules[0])}
    assert list(found) == ["thresh", "box_thresh", "shape"]
    assert found["box_thresh"].still == ((0.1, 0.3), (0.5, 0.7)) and not found["box_thresh"].does_nothing
    assert found["shape"].does_nothing and str(found["shape"]) == "shape: no effect from polygon to quad"
    assert [(p.value, p.best) for p in found["thresh"].points] == [(0.2, 1.0), (0.4, pytest.approx(2 / 3))]
    assert found["thresh"].loss is not None and found["thresh"].loss.mean == pytest.approx(1 / 3)
    assert "no effect from 0.1 to 0.3; no effect from 0.5 to 0.7" in str(found["box_thresh"])


def test_knobs_of_another_way_to_unclip_are_not_mixed_in() -> None:
    rules = [
        *(Postprocess(unclip_ratio=r) for r in (1.5, 2.0)),
        *(Postprocess(unclip="inverse", shrink_ratio=r) for r in (0.4, 0.5)),
    ]
    hmean = np.repeat(np.array([[0.7], [0.8], [0.9], [0.6]]), 10, axis=1)
    found = {knob.name: knob for knob in sensitivity(table_of(hmean, tuple(rules)), rules[2])}
    assert [point.best for point in found["unclip_ratio"].points] == pytest.approx([0.7, 0.8])
    assert found["unclip_ratio"].chosen is None and found["unclip_ratio"].loss is None
    assert found["shrink_ratio"].chosen == 0.4 and found["shrink_ratio"].loss is not None
    assert str(found["shrink_ratio"]).startswith("shrink_ratio: 0.5 costs 0.3000 at best; alone it moves H by 0.3000")
