"""Members, views, weights and thresholds of an ensemble chosen together, with every choice inside the cross-fitting.

A *recipe* is a blend with a rule. A *way* makes a recipe of the images it may look at:

- equal weights: the candidates are ranked on those images by their own H; the best two, three ... up to `most` are
  fused; how many, and the rule, is the flat top of all that was scored (`thresholds.pick`);
- learned weights (`orchestrator.evaluation.weights`): over all candidates, under the rule that equal weights chose on
  the same images.

The images are in K parts. A way is scored cross-fitted: each part under the recipe that the way makes without it. From
equal weights and the first view alone, *steps* are tried one after the other: more views, greedy weights, simplex
weights; a step is taken only if the paired interval of its cross-fitted H above what is held so far lies above 0 (of k
sets of views the best is tried, at a level of 1 - .05 / k). Whether a step is taken is a choice like any other: the
score of it all takes each part under the steps that the other parts took, with the recipe that these made. So the parts
left out are none (what ships), one (the score), or two (what is decided without one).

Shapes: M candidates, N images, K parts, F fields of `Counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from detector.types import Float64
from orchestrator.evaluation.blends import Bench, Blend, Weights, equal_weights
from orchestrator.evaluation.statistics import LEVEL, Interval, paired_bootstrap
from orchestrator.evaluation.thresholds import PARTS, hmean_of, neighbours, pick, split
from orchestrator.evaluation.weights import Hunt, greedy, simplex

Out = frozenset[int]  # parts that are left out
Learning = Literal["greedy", "simplex"]
Way = Literal["equal", "greedy", "simplex"]
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
    """

    recipe: Recipe
    by_part: tuple[Recipe, ...]
    part_N: NDArray[np.int64]
    counts_NF: NDArray[np.int32]
    equal_NF: NDArray[np.int32]
    steps: tuple[Step, ...]
    views: tuple[tuple[str, Interval], ...]


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
        self.bench, self.own_MN, self.learn, self.most = bench, own_MN, tuple(learn), max(2, most)
        self.part_N = split(images, PARTS, 0) if part_N is None else part_N
        self.parts = int(self.part_N.max()) + 1
        self.base: tuple[str, ...] = tuple(views[:1])
        pairs = [(*self.base, view) for view in views[1:]]
        if self.parts < 2:  # one image decides nothing
            views, self.learn = views[:1], ()
        self.view_sets = list(dict.fromkeys([*pairs, *([tuple(views)] if len(views) > 1 else [])]))
        self._near = neighbours(bench.rules)
        self._equal: dict[tuple[Out, tuple[str, ...]], Recipe] = {}
        self._learned: dict[tuple[Learning, Out, tuple[str, ...]], Recipe] = {}

    def choose(self) -> Chosen:
        """Try every step; see the module."""
        outer = [NOTHING, *(frozenset({part}) for part in range(self.parts))]
        deciding = bool(self.view_sets or self.learn)
        sets = [*outer, *map(frozenset, combinations(range(self.parts), 2))] if deciding else outer
        self._make_equal(sets, (self.base, *self.view_sets))
        held: dict[Out, tuple[Way, tuple[str, ...]]] = dict.fromkeys(outer, ("equal", self.base))
        steps = []
        if self.view_sets:
            steps.append(self._step("views", outer, held, self._best_views))
        for way in self.learn:
            self._make_learned(way, {(out, held[over][1]) for over in outer for out in (over, *self._without(over))})
            steps.append(self._step(way, outer, held, lambda out, way=way: (way, held[out][1])))  # type: ignore[misc]
        by_part = tuple(self._recipe(*held[frozenset({part})], frozenset({part})) for part in range(self.parts))
        gains = [(views[-1], self._gain("equal", views, "equal", self.base, NOTHING)) for views in self._pairs()]
        return Chosen(
            self._recipe(*held[NOTHING], NOTHING),
            by_part,
            self.part_N,
            self.by_part(by_part),
            self._crossfitted("equal", self.base, NOTHING),
            tuple(steps),
            tuple(gains),
        )

    def by_part(self, recipes: Sequence[Recipe]) -> NDArray[np.int32]:
        """(N, F): each image under the recipe of its part."""
        self._need(recipes)
        found = np.zeros_like(self.bench.counts(recipes[0].blend, recipes[0].rule))
        for part, recipe in enumerate(recipes):
            found[self.part_N == part] = self.bench.counts(recipe.blend, recipe.rule)[self.part_N == part]
        return found

    # --- steps ------------------------------------------------------------------------------------------------------

    def _step(
        self,
        name: str,
        outer: Sequence[Out],
        held: dict[Out, tuple[Way, tuple[str, ...]]],
        wanted: Callable[[Out], tuple[Way, tuple[str, ...]]],
    ) -> Step:
        """Try one step for what ships and for each part's score; `held` takes it in where it is surely better."""
        level = LEVEL if name != "views" else 1 - (1 - LEVEL) / len(self.view_sets)
        told: Step | None = None
        for out in outer:
            way, views = wanted(out)
            gain = self._gain(way, views, *held[out], out, level)
            if out == NOTHING:
                told = Step(name, views, self._crossfitted(way, views, out), gain, gain.above_zero)
            if gain.above_zero:
                held[out] = (way, views)
        assert told is not None
        return told

    def _best_views(self, out: Out) -> tuple[Way, tuple[str, ...]]:
        """The set of views with the highest mean H."""
        image_N = self._looked_at(out)
        worth = [hmean_of(self._crossfitted("equal", views, out))[image_N].mean() for views in self.view_sets]
        return "equal", self.view_sets[int(np.argmax(worth))]

    def _pairs(self) -> list[tuple[str, ...]]:
        return [views for views in self.view_sets if len(views) == 2]

    def _gain(
        self, way: Way, views: tuple[str, ...], before: Way, seen: tuple[str, ...], out: Out, level: float = LEVEL
    ) -> Interval:
        """Of the mean H of one way above another, on the images that are not left out."""
        image_N = self._looked_at(out)
        a_N, b_N = (hmean_of(self._crossfitted(*side, out))[image_N] for side in ((way, views), (before, seen)))
        return paired_bootstrap(a_N, b_N, level=level)

    def _crossfitted(self, way: Way, views: tuple[str, ...], out: Out) -> NDArray[np.int32]:
        """(N, F): each part that is not left out under the recipe made without it; parts left out hold no scores."""
        inside = [part for part in range(self.parts) if part not in out]
        recipes = {part: self._recipe(way, views, out | {part}) for part in inside}
        self._need(recipes.values())
        found = np.zeros_like(self.bench.counts(*_of(next(iter(recipes.values())))))
        for part, recipe in recipes.items():
            found[self.part_N == part] = self.bench.counts(*_of(recipe))[self.part_N == part]
        return found

    def _need(self, recipes: Iterable[Recipe]) -> None:
        wanted: dict[Blend, list[int]] = {}
        for recipe in recipes:
            wanted.setdefault(recipe.blend, []).append(recipe.rule)
        self.bench.need(wanted)

    # --- recipes ----------------------------------------------------------------------------------------------------

    def _recipe(self, way: Way, views: tuple[str, ...], out: Out) -> Recipe:
        return self._equal[out, views] if way == "equal" else self._learned[way, out, views]

    def _looked_at(self, out: Out) -> NDArray[np.bool_]:
        """The images that are not left out; all, where none would be left."""
        image_N = ~np.isin(self.part_N, list(out))
        return image_N if image_N.any() else np.ones_like(image_N)

    def _without(self, out: Out) -> list[Out]:
        return [out | {part} for part in range(self.parts) if part not in out]

    def _grown(self, out: Out, views: tuple[str, ...]) -> list[Blend]:
        """The best two candidates of some images, the best three ..., with equal weights."""
        order = np.argsort(-self.own_MN[:, self._looked_at(out)].mean(axis=1), kind="stable").tolist()
        sizes = range(2, min(self.most, len(order)) + 1)
        return [Blend(equal_weights(order[:size], len(order)), views) for size in sizes]

    def _make_equal(self, sets: Sequence[Out], view_sets: Sequence[tuple[str, ...]]) -> None:
        grown = {(out, views): self._grown(out, views) for out in sets for views in view_sets}
        self.bench.need(dict.fromkeys(blend for blends in grown.values() for blend in blends))
        for (out, views), blends in grown.items():
            tables = [self.bench.table(blend) for blend in blends]
            rule, flat, place = pick(tables, [self._near] * len(tables), self._looked_at(out))
            self._equal[out, views] = Recipe(blends[place], rule, flat)

    def _make_learned(self, way: Learning, wanted: Iterable[tuple[Out, tuple[str, ...]]]) -> None:
        places = sorted(wanted, key=lambda place: (sorted(place[0]), place[1]))
        starts = [self._equal[place] for place in places]
        hunts = [
            Hunt((views, start.rule), self._looked_at(out), tuple(sorted(out)))
            for (out, views), start in zip(places, starts, strict=True)
        ]
        if way == "greedy":
            found = greedy(hunts, self._score, len(self.own_MN), self.most)
        else:
            found = simplex(hunts, [start.blend.weights for start in starts], self._score, self.most)
        for (out, views), start, weights in zip(places, starts, found, strict=True):
            self._learned[way, out, views] = Recipe(Blend(weights, views), start.rule, start.flat)

    def _score(self, asked: Sequence[tuple[Hashable, Weights]]) -> list[Float64]:
        """H of every image under the views and rule of a key, with some weights."""
        recipes = [Recipe(Blend(weights, key[0]), key[1], 0) for key, weights in asked]  # type: ignore[index]
        self._need(recipes)
        return [hmean_of(self.bench.counts(*_of(recipe))) for recipe in recipes]


def _of(recipe: Recipe) -> tuple[Blend, int]:
    return recipe.blend, recipe.rule
