"""Weights against brute force, and choices of members, views and weights on drawn maps whose scores are arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config import Postprocess
from detector.geometry import fit_frame
from detector.inference.predict import PageMap
from detector.types import Float64, Page, UInt8, Word
from orchestrator.evaluation.anatomy import anatomy, correlation, without
from orchestrator.evaluation.blends import Bench, Blend, Weights, equal_weights, normal
from orchestrator.evaluation.recipes import Chooser, Learning
from orchestrator.evaluation.thresholds import hmean_of, image_scores
from orchestrator.evaluation.weights import EVALUATIONS, Hunt, greedy, simplex, stages, trimmed

SIDE = 96
PLACES = [(8, 8), (52, 8), (8, 40), (52, 40)]  # of words of 32 x 10 px
RULE = Postprocess(unclip_ratio=0.0)


class Hill:
    """H falls with the square of the distance from a peak; counts what it is asked for."""

    def __init__(self, peak: Sequence[float], images: int = 4) -> None:
        self.peak, self.images = np.array(peak), images
        self.asked: set[tuple[Hashable, Weights]] = set()

    def at(self, weights: Weights) -> float:
        return float(1 - ((np.array(weights) - self.peak) ** 2).sum())

    def __call__(self, asked: Sequence[tuple[Hashable, Weights]]) -> list[Float64]:
        self.asked |= set(asked)
        return [np.full(self.images, self.at(weights)) for _, weights in asked]


def all_images(images: int = 4) -> Hunt:
    return Hunt("key", np.ones(images, dtype=bool))


def brute_force(score: Hill, candidates: int, pieces: int) -> float:
    counts = (c for c in product(range(pieces + 1), repeat=candidates) if 0 < sum(c) <= pieces)
    return max(score.at(normal(c)) for c in counts)


@pytest.mark.parametrize("peak", [(0.5, 0.25, 0.25), (1.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.25, 0.75, 0.0)])
def test_greedy_and_simplex_climb_to_what_brute_force_finds(peak: tuple[float, ...]) -> None:
    score = Hill(peak)
    assert brute_force(score, 3, stages(3)) == 1.0
    assert greedy([all_images()], score, 3, 3) == [pytest.approx(peak)]
    (found,) = simplex([all_images()], [equal_weights(range(3), 3)], score, 3)
    assert score.at(found) > 0.995  # a pattern's mesh need not hold the peak


@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3))
@settings(max_examples=25, deadline=None)
def test_greedy_is_near_the_best_of_all_weightings(raw: list[float]) -> None:
    score = Hill(normal(raw))
    (found,) = greedy([all_images()], score, 3, 3)
    assert score.at(found) > brute_force(score, 3, stages(3)) - 0.01


@given(st.integers(2, 8), st.integers(2, 4), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_members_and_evaluations_are_bounded(candidates: int, most: int, hunts: int) -> None:
    score = Hill(np.random.default_rng(candidates).dirichlet(np.ones(candidates)))
    sides = [Hunt("key", np.arange(4) != number, (number,)) for number in range(hunts)]
    starts = [equal_weights(range(2), candidates)] * hunts
    for found in (greedy(sides, score, candidates, most), simplex(sides, starts, score, most)):
        assert all(sum(w > 0 for w in weights) <= max(most, 2) and abs(sum(weights) - 1) < 1e-5 for weights in found)
    lonely = Hill(score.peak)
    greedy(sides, lonely, candidates, most)
    assert len(lonely.asked) <= EVALUATIONS


def test_hunts_look_at_their_own_images_only() -> None:
    # Images 0 and 1 want member 0 alone, 2 and 3 member 1 alone.
    def score(asked: Sequence[tuple[Hashable, Weights]]) -> list[Float64]:
        return [np.array([w[0], w[0], w[1], w[1]]) for _, w in asked]

    sides = [Hunt("key", np.array([1, 1, 0, 0], dtype=bool)), Hunt("key", np.array([0, 0, 1, 1], dtype=bool))]
    assert greedy(sides, score, 2, 2) == [(1.0, 0.0), (0.0, 1.0)]


def test_the_largest_weights_stay() -> None:
    assert trimmed([0.1, 0.4, 0.2, 0.4], 2) == (0.0, 0.5, 0.0, 0.5)


# --- on maps ------------------------------------------------------------------------------------------------------

Draw = Callable[[int, str, int], UInt8]  # candidate, view, page -> map


def pages_of(count: int, start: int = 0) -> list[Page]:
    corners = [np.array([[x, y], [x + 32, y], [x + 32, y + 10], [x, y + 10]], dtype=np.float64) for x, y in PLACES]
    words = tuple(Word(str(i), corner) for i, corner in enumerate(corners))
    return [Page(str(start + number), Path(f"{start + number}.png"), words) for number in range(count)]


def bench_of(draw: Draw, pages: Sequence[Page], rules: Sequence[Postprocess] = (RULE,)) -> Bench:
    frame = fit_frame((SIDE, SIDE), SIDE, multiple=1)
    return Bench(lambda m, view, name: PageMap(draw(m, view, int(name)), frame), pages, rules, "competition", threads=1)


def drawn(levels: dict[tuple[int, int], int]) -> UInt8:
    """A map with words at these places."""
    prob_HW = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for (x, y), level in levels.items():
        prob_HW[y : y + 10, x : x + 32] = level
    return prob_HW


def chooser(
    draw: Draw,
    count: int,
    candidates: int,
    views: tuple[str, ...] = ("identity",),
    learn: tuple[Learning, ...] = (),
    rules: Sequence[Postprocess] = (RULE,),
) -> Chooser:
    bench = bench_of(draw, pages_of(count), rules)
    alone = [Blend(equal_weights([m], candidates), views[:1]) for m in range(candidates)]
    own_MN = np.stack([hmean_of(bench.counts(blend, 0)) for blend in alone])
    return Chooser(bench, own_MN, views, learn)


def test_learned_weights_are_taken_where_equal_ones_fail() -> None:
    # Member 0 sees the words at 200 and a false one at 150, member 1 nothing. Its share must bring 200 above .4 x 255 =
    # 102 and 150 below: between .51 and .68. Equal weights find nothing (100), 2 : 1 is right on every page.
    def draw(member: int, view: str, page: int) -> UInt8:
        return drawn(dict.fromkeys(PLACES, 200) | {(30, 70): 150}) if member == 0 else drawn({})

    found = chooser(draw, 10, 2, learn=("greedy", "simplex")).choose()
    greedy_step, simplex_step = found.steps
    assert greedy_step.taken and greedy_step.gain.mean == pytest.approx(1.0)
    assert not simplex_step.taken  # nothing is left to gain
    assert found.recipe.blend.weights == pytest.approx((2 / 3, 1 / 3), abs=0.02)
    assert hmean_of(found.equal_NF).tolist() == [0.0] * 10 and hmean_of(found.counts_NF).tolist() == [1.0] * 10
    assert {recipe.blend.weights for recipe in found.by_part} == {found.recipe.blend.weights}


def test_a_view_that_helps_is_taken_and_idle_ones_are_named() -> None:
    # Nobody sees the first word upright; mirrored, both do: a mean of 128 with two views, 85 (below 102) with three.
    def draw(member: int, view: str, page: int) -> UInt8:
        return drawn(dict.fromkeys(PLACES if view == "hflip" else PLACES[1:], 255))

    choice = chooser(draw, 10, 2, views=("identity", "vflip", "hflip"))
    found = choice.choose()
    assert found.recipe.blend.views == ("identity", "hflip")
    single = image_scores(choice.bench.names, choice.bench.counts(Blend((1.0, 0.0), ("identity",)), 0))
    parts = anatomy(found, choice.bench, ("a", "b"), choice.own_MN, single, {})
    assert [rung.name for rung in parts.rungs] == ["equal weights", "views", "chosen"]
    # Three of four words: recall 3/4, H = 6/7; then all.
    assert [rung.hmean for rung in parts.rungs] == pytest.approx([6 / 7, 1, 1])
    assert parts.idle_views == ("vflip",) and "vflip: +0.0000" in str(parts.views[0])
    assert {view.view: view.gain.mean for view in parts.views} == pytest.approx({"vflip": 0.0, "hflip": 1 / 7})


def test_views_of_one_model_are_chosen_as_those_of_several() -> None:
    # As above, with one model: a mean of 128 for the first word with two views, 85 (below 102) with three.
    def draw(member: int, view: str, page: int) -> UInt8:
        return drawn(dict.fromkeys(PLACES if view == "hflip" else PLACES[1:], 255))

    choice = chooser(draw, 10, 1, views=("identity", "vflip", "hflip"), learn=("greedy", "simplex"))
    found = choice.choose()
    assert found.alone and found.recipe.blend == Blend((1.0,), ("identity", "hflip"))
    assert {recipe.blend for recipe in found.by_part} == {found.recipe.blend}
    assert [step.name for step in found.steps] == ["views"]  # one model's weight is not learned
    single = image_scores(choice.bench.names, choice.bench.counts(Blend((1.0,), ("identity",)), 0))
    costs = {(0, "identity"): 20.0, (0, "vflip"): 21.0, (0, "hflip"): 22.0}
    parts = anatomy(found, choice.bench, ("a",), choice.own_MN, single, costs)
    assert [(rung.name, rung.ms) for rung in parts.rungs] == [("one view", 20.0), ("views", 42.0), ("chosen", 42.0)]
    assert [rung.gain.mean for rung in parts.rungs] == pytest.approx([0, 1 / 7, 1 / 7])
    assert [(view.view, view.ms, view.pays) for view in parts.views] == [("vflip", 21.0, False), ("hflip", 22.0, True)]
    assert parts.members == () and parts.correlation == ()


def test_one_model_of_a_pool_is_chosen_with_its_views() -> None:
    # Model 1 sees all words, model 0 three of them, the view adds none: the better one alone, upright.
    choice = chooser(lambda m, view, page: drawn(dict.fromkeys(PLACES[1 - m :], 255)), 10, 2, ("identity", "hflip"))
    found = Chooser(choice.bench, choice.own_MN, ("identity", "hflip"), ("greedy",), most=1).choose()
    assert found.alone and found.recipe.blend == Blend((0.0, 1.0), ("identity",))


def test_what_a_member_adds_is_what_is_lost_without_it() -> None:
    # Each sees three words, together all four at 128; without the other a word is gone: 1 - 6/7.
    choice = chooser(lambda member, view, page: drawn({p: 255 for p in PLACES if p != PLACES[member]}), 10, 2)
    found = choice.choose()
    assert found.steps == () and found.recipe.blend.weights == (0.5, 0.5)
    assert without(0, found, choice.bench).mean == pytest.approx(1 / 7)
    assert without(1, found, choice.bench).above_zero


def test_errors_of_members_are_correlated_over_images() -> None:
    a, b = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.6, 0.7, 0.8, 0.9])
    found = correlation(np.stack([a, b, (a + 1) / 2, np.full(4, 0.5)]))
    assert found[0] == pytest.approx((1, -1, 1, 0)) and found[3] == pytest.approx((0, 0, 0, 1))
    assert found[0][1] == pytest.approx(np.corrcoef(a, b)[0, 1])


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_decide_nothing(count: int) -> None:
    # Mirrored, a word more is seen on every page: a sure gain, but of too few pages.
    def draw(member: int, view: str, page: int) -> UInt8:
        return drawn(dict.fromkeys(PLACES if view == "hflip" else PLACES[1:], 255))

    found = chooser(draw, count, 2, views=("identity", "hflip"), learn=("greedy", "simplex")).choose()
    assert found.recipe.blend == Blend((0.5, 0.5), ("identity",))
    assert not any(step.taken for step in found.steps)
    assert hmean_of(found.counts_NF) == pytest.approx(6 / 7)


def test_given_parts_are_left_out_as_they_are() -> None:
    # Two folds: member 2 is the better second on the pages of fold 0, member 1 on those of fold 1; each fold is scored
    # with the member that the other fold prefers, and finds three words of four.
    def draw(member: int, view: str, page: int) -> UInt8:
        seen = {0: PLACES[2:], 1: PLACES[: 3 if page % 2 else 2], 2: PLACES[: 2 if page % 2 else 3]}[member]
        return drawn(dict.fromkeys(seen, 255))

    bench = bench_of(draw, pages_of(12))
    own_MN = np.stack([hmean_of(bench.counts(Blend(equal_weights([m], 3), ("identity",)), 0)) for m in range(3)])
    own_MN[0] = 1.0  # the first of all, whatever it scores
    found = Chooser(bench, own_MN, ("identity",), most=2, part_N=np.arange(12) % 2).choose()
    assert [recipe.blend.members for recipe in found.by_part] == [(0, 1), (0, 2)]


def noisy(seed: int) -> Draw:
    """Three members of equal worth: each word of each page is seen by each of them with probability .7, by chance."""

    def draw(member: int, view: str, page: int) -> UInt8:
        random = np.random.default_rng((seed, member, page))
        return drawn({place: int(random.integers(60, 255)) if random.random() < 0.7 else 0 for place in PLACES})

    return draw


def test_noise_shows_no_gain_and_learned_weights_are_turned_down() -> None:
    # 4 draws of 20 pages. What is shown is flattered by the choice; the cross-fitted score is what 60 other pages say.
    rules = tuple(Postprocess(thresh=t, box_thresh=b, unclip_ratio=0.0) for t in (0.1, 0.2) for b in (0.1, 0.2, 0.3))
    shown, fair, fresh, taken = [], [], [], 0
    for seed in range(4):
        choice = chooser(noisy(seed), 20, 3, learn=("greedy",), rules=rules)
        found = choice.choose()
        taken += sum(step.taken for step in found.steps)
        blend, rule = found.recipe.blend, found.recipe.rule
        shown.append(hmean_of(choice.bench.counts(blend, rule)).mean())
        fair.append(hmean_of(found.counts_NF).mean())
        other = bench_of(noisy(seed), pages_of(60, start=1000), rules)
        fresh.append(hmean_of(other.counts(blend, rule)).mean())
    error = np.subtract(fair, fresh)
    assert np.mean(shown) >= np.mean(fair)
    assert abs(error.mean()) < 3 * error.std(ddof=1) / np.sqrt(4) + 0.002
    assert taken == 0
