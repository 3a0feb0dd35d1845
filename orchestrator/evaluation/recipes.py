"""Members, views, weights and thresholds of an ensemble chosen together, with every choice inside the cross-fitting.

A *recipe* is a blend with a rule. A *way* makes a recipe of the images it may look at:

- equal weights: the candidates are ranked on those images by their own H; the best two, three ... up to `most` are
  fused (a single candidate, or `most` of 1, leaves the best one alone: then views are all there is to choose); how
  many, and the rule, is the flat top of all that was scored (`thresholds.pick`);
- learned weights (`orchestrator.evaluation.weights`): over all candidates, under the rule that equal weights chose on
  the same images.

The images are in K parts. A way is scored cross-fitted: each part under the recipe that the way makes without it. From
equal weights and the first view alone, *steps* are tried one after the other: more views, greedy weights, simplex
weights; a step is taken only if the paired interval of its cross-fitted H above what is held so far lies above 0 (of k
sets of views the best is tried, at a level of 1 - .05 / k). Whether a step is taken is a choice like any other: where
all images take it, the score of it all has each part under the steps that the other parts take, with the recipe that
these make. So the parts left out are none (what ships), one (the score), or two (what is decided without one). A step
that all images turn down is in no part's recipe: what is scored is what ships, and the inner hunts are saved.

Shapes: M candidates, N images, K parts, F fields of `Counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from detector.metrics.cleval import Counts
from detector.types import Float64
from orchestrator.evaluation.blends import Bench, Blend, Weights, equal_weights
from orchestrator.evaluation.statistics import LEVEL, Interval, paired_bootstrap
from orchestrator.evaluation.thresholds import PARTS, hmean_of, neighbours, pick, split
from orchestrator.evaluation.weights import Hunt, greedy, simplex

Out = frozenset[int]  # parts that are left out
Learning = Literal["greedy", "simplex"]
Way = tuple[Literal["equal", "greedy", "simplex"], tuple[str, ...]]  # of weights, and the views
Held = dict[Out, Way]  # the way that is held without some parts
LEARNING: Final[tuple[Learning, ...]] = ("greedy", "simplex")
NOTHING: Final[Out] = frozenset()


@dataclass(frozen=True, slots=True)
class Recipe:
    """A blend, the index of its rule, and how many rules were as good."""

    blend: Blend
    rule: int
    flat: int


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """Something more than equal weights and one view, tried on all images.

    Attributes:
        name: `views`, `greedy` or `simplex`.
        views: that the members see with it.
        counts_NF: cross-fitted.
        gain: of the mean H above what was held before.
    """

    name: str
    views: tuple[str, ...]
    counts_NF: NDArray[np.int32]
    gain: Interval
    taken: bool


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What ships, and what is known of it.

    Attributes:
        recipe: made on all images.
        by_part: the recipe under which each part was scored.
        part_N: the part of each image.
        counts_NF: cross-fitted, the decisions included.
        equal_NF: cross-fitted, of equal weights and the first view.
        steps: as they were tried on all images.
        views: each further view beside the first: gain of both over the first alone, cross-fitted, members and
            thresholds chosen anew.
        alone: one model was all that could be taken, so that views and thresholds were all there was to choose.
    """

    recipe: Recipe
    by_part: tuple[Recipe, ...]
    part_N: NDArray[np.int64]
    counts_NF: NDArray[np.int32]
    equal_NF: NDArray[np.int32]
    steps: tuple[Step, ...]
    views: tuple[tuple[str, Interval], ...]
    alone: bool


class Chooser:
    """One choice among the blends of a bench."""

    def __init__(
        self,
        bench: Bench,
        own_MN: Float64,
        views: Sequence[str],
        learn: Sequence[Learning] = (),
        most: int = 6,
        *,
        part_N: NDArray[np.int64] | None = None,
    ) -> None:
        """Args:
        own_MN: H of each candidate alone, under its own rule.
        views: to be tried; the first is taken anyhow.
        learn: ways to learn weights, tried in this order.
        most: members at most.
        part_N: the part of each image, from 0; drawn unless given.
        """
        images = len(bench.pages)
        self.bench, self.own_MN, self.most = bench, own_MN, min(most, len(own_MN))
        self.learn = tuple(learn) if self.most > 1 else ()  # one model weighs 1
        self.part_N = split(images, PARTS, 0) if part_N is None else part_N
        self.parts = int(self.part_N.max()) + 1
        self.base: tuple[str, ...] = tuple(views[:1])
        if self.parts < 2:  # one image decides nothing
            views, self.learn = views[:1], ()
        pairs = [(*self.base, view) for view in views[1:]]
        self.view_sets = list(dict.fromkeys([*pairs, *([tuple(views)] if len(views) > 1 else [])]))
        self._near = neighbours(bench.rules)
        self._recipes: dict[tuple[Out, Way], Recipe] = {}

    def choose(self) -> Chosen:
        """Try every step; see the module."""
        outer = [NOTHING, *self._without(NOTHING)]
        self._make({(out, ("equal", views)) for out in outer for views in (self.base, *self.view_sets)})
        held: Held = dict.fromkeys(outer, ("equal", self.base))
        steps = [self._step("views", held, self._view_ways)] if self.view_sets else []
        steps += [self._step(kind, held, partial(_weighted, kind)) for kind in self.learn]
        by_part = tuple(self._recipe(held[out], out) for out in outer[1:])
        pairs = [views for views in self.view_sets if len(views) == 2]
        gains = [(views[-1], self._gain(("equal", views), ("equal", self.base), NOTHING)) for views in pairs]
        return Chosen(
            self._recipe(held[NOTHING], NOTHING),
            by_part,
            self.part_N,
            self.by_part(by_part),
            self._crossfitted(("equal", self.base), NOTHING),
            tuple(steps),
            tuple(gains),
            self.most == 1,
        )

    def by_part(self, recipes: Sequence[Recipe]) -> NDArray[np.int32]:
        """(N, F): each image under the recipe of its part."""
        return self._joined(dict(enumerate(recipes)))

    # --- steps ------------------------------------------------------------------------------------------------------

    def _step(self, name: str, held: Held, ways: Callable[[Way], list[Way]]) -> Step:
        """Try one step on all images, then, if it is taken, for each part's score; `held` takes it in.

        Args:
            ways: what may come of what is held.
        """
        tried = self._best(ways(held[NOTHING]), NOTHING)
        level = 1 - (1 - LEVEL) / len(ways(held[NOTHING]))
        gain = self._gain(tried, held[NOTHING], NOTHING, level)
        step = Step(name, tried[1], self._crossfitted(tried, NOTHING), gain, gain.above_zero)
        if step.taken:
            inner = [out for out in held if out != NOTHING]
            for out in inner:
                best = self._best(ways(held[out]), out)
                if self._gain(best, held[out], out, level).above_zero:
                    held[out] = best
            held[NOTHING] = tried
        return step

    def _view_ways(self, held: Way) -> list[Way]:
        return [(held[0], views) for views in self.view_sets]

    def _best(self, ways: Sequence[Way], out: Out) -> Way:
        """The way with the highest mean H on the images that are not left out."""
        self._make({(inner, way) for way in ways for inner in (out, *self._without(out))})
        image_N = self._looked_at(out)
        worth = [hmean_of(self._crossfitted(way, out))[image_N].mean() for way in ways]
        return ways[int(np.argmax(worth))]

    def _gain(self, way: Way, before: Way, out: Out, level: float = LEVEL) -> Interval:
        """Of the mean H of one way above another, on the images that are not left out."""
        image_N = self._looked_at(out)
        a_N, b_N = (hmean_of(self._crossfitted(side, out))[image_N] for side in (way, before))
        return paired_bootstrap(a_N, b_N, level=level)

    def _crossfitted(self, way: Way, out: Out) -> NDArray[np.int32]:
        """(N, F): each part that is not left out under the recipe made without it; parts left out hold no scores."""
        self._make({(inner, way) for inner in self._without(out)})
        return self._joined({part: self._recipe(way, out | {part}) for part in range(self.parts) if part not in out})

    def _joined(self, recipes: Mapping[int, Recipe]) -> NDArray[np.int32]:
        self._need(recipes.values())
        found = np.zeros((len(self.bench.pages), len(Counts.__slots__)), dtype=np.int32)
        for part, recipe in recipes.items():
            found[self.part_N == part] = self.bench.counts(*_of(recipe))[self.part_N == part]
        return found

    def _need(self, recipes: Iterable[Recipe]) -> None:
        wanted: dict[Blend, list[int]] = {}
        for recipe in recipes:
            wanted.setdefault(recipe.blend, []).append(recipe.rule)
        self.bench.need(wanted)

    # --- recipes ----------------------------------------------------------------------------------------------------

    def _recipe(self, way: Way, out: Out) -> Recipe:
        return self._recipes[out, way]

    def _make(self, wanted: Iterable[tuple[Out, Way]]) -> None:
        """Make the recipes that are not made yet, those of one kind together."""
        left = [place for place in wanted if place not in self._recipes]
        bases: set[tuple[Out, Way]] = {(out, ("equal", views)) for out, (_, views) in left}
        # Views first: what is fused of the same views is looked at in a row, and few tables are held.
        wanting = (place for place in bases if place not in self._recipes)
        self._make_equal(sorted(wanting, key=lambda place: (place[1], sorted(place[0]))))
        for kind in LEARNING:
            self._make_learned(kind, sorted((place for place in left if place[1][0] == kind), key=_order))

    def _looked_at(self, out: Out) -> NDArray[np.bool_]:
        """The images that are not left out; all, where none would be left."""
        image_N = ~np.isin(self.part_N, list(out))
        return image_N if image_N.any() else np.ones_like(image_N)

    def _without(self, out: Out) -> list[Out]:
        return [out | {part} for part in range(self.parts) if part not in out]

    def _grown(self, out: Out, views: tuple[str, ...]) -> list[Blend]:
        """The best two candidates of some images, the best three ..., with equal weights."""
        order = np.argsort(-self.own_MN[:, self._looked_at(out)].mean(axis=1), kind="stable").tolist()
        sizes = range(min(2, self.most), self.most + 1)
        return [Blend(equal_weights(order[:size], len(order)), views) for size in sizes]

    def _make_equal(self, places: Sequence[tuple[Out, Way]]) -> None:
        grown = {place: self._grown(place[0], place[1][1]) for place in places}
        self.bench.need(dict.fromkeys(blend for blends in grown.values() for blend in blends))
        for place, blends in grown.items():
            tables = [self.bench.table(blend) for blend in blends]
            rule, flat, first = pick(tables, [self._near] * len(tables), self._looked_at(place[0]))
            self._recipes[place] = Recipe(blends[first], rule, flat)

    def _make_learned(self, kind: Learning, places: Sequence[tuple[Out, Way]]) -> None:
        starts = [self._recipes[out, ("equal", views)] for out, (_, views) in places]
        hunts = [
            Hunt((views, start.rule), self._looked_at(out), tuple(sorted(out)))
            for (out, (_, views)), start in zip(places, starts, strict=True)
        ]
        if kind == "greedy":
            found = greedy(hunts, self._score, len(self.own_MN), self.most)
        else:
            found = simplex(hunts, [start.blend.weights for start in starts], self._score, self.most)
        for place, start, weights in zip(places, starts, found, strict=True):
            self._recipes[place] = Recipe(Blend(weights, place[1][1]), start.rule, start.flat)

    def _score(self, asked: Sequence[tuple[Hashable, Weights]]) -> list[Float64]:
        """H of every image under the views and rule of a key, with some weights."""
        recipes = [Recipe(Blend(weights, key[0]), key[1], 0) for key, weights in asked]  # type: ignore[index]
        self._need(recipes)
        return [hmean_of(self.bench.counts(*_of(recipe))) for recipe in recipes]


def _weighted(kind: Learning, held: Way) -> list[Way]:
    return [(kind, held[1])]


def _order(place: tuple[Out, Way]) -> tuple[list[int], Way]:
    """A set has no order of its own; hunts that are told apart by it must not depend on one."""
    return sorted(place[0]), place[1]


def _of(recipe: Recipe) -> tuple[Blend, int]:
    return recipe.blend, recipe.rule
