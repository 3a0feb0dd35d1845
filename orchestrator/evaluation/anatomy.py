"""What every part of an ensemble is worth, and what it costs: steps, views, members, and how alike members err.

All gains are of the mean H, cross-fitted, with their paired intervals. A member's is what is lost without it, the
others' weights in proportion and the threshold kept; it may be negative. Costs are measured on the machine that makes
the ensemble, on one page: the time of a member on a view, reading of the image and post-processing left out.

Shapes: M candidates, V views, N images.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.types import Float64, Page
from orchestrator.evaluation.blends import Bench
from orchestrator.evaluation.recipes import Chosen, Recipe
from orchestrator.evaluation.scores import ImageScores
from orchestrator.evaluation.statistics import Interval, paired_bootstrap
from orchestrator.evaluation.thresholds import hmean_of, image_scores


@dataclass(frozen=True, slots=True)
class Rung:
    """One step of the way from a single model to the ensemble.

    Attributes:
        name: `equal weights` (of a single model: `one view`), `views`, `greedy weights`, `simplex weights`, or
            `chosen`: all decisions cross-fitted.
        hmean, precision, recall: cross-fitted macro means.
        gain: of H above the single model that all is held against, whose thresholds were searched, too.
        more: of H above the step before that was kept; None for the first and for `chosen`.
        kept: whether it is part of what ships.
        ms: of all its members and views on a page; None where it was not measured.
    """

    name: str
    views: tuple[str, ...]
    hmean: float
    precision: float
    recall: float
    gain: Interval
    more: Interval | None
    kept: bool
    ms: float | None = None


@dataclass(frozen=True, slots=True)
class ViewGain:
    """A view beside the first one, averaged over the members; `ms` a page for all members."""

    view: str
    gain: Interval
    ms: float | None = None

    @property
    def pays(self) -> bool:
        """Whether it surely gains."""
        return self.gain.above_zero

    def __str__(self) -> str:
        cost = "" if self.ms is None else f" for {self.ms:.0f} ms an image"
        return f"{self.view}: {self.gain}{cost}" + ("" if self.pays else "; does not pay for its time, leave it out")


@dataclass(frozen=True, slots=True)
class MemberGain:
    """What a member of the shipped ensemble adds to the others; `ms` a page for all its views."""

    name: str
    weight: float
    gain: Interval
    ms: float | None = None


@dataclass(frozen=True, slots=True)
class Anatomy:
    """All of it.

    Attributes:
        members: none where one model ships, without which there would be nothing.
        correlation: of the members' errors, 1 - H of each image under their own rules; shipped members, in their order.
        evaluations: pairs of a weighting and a rule that were scored on all images.
    """

    fusion: str
    rungs: tuple[Rung, ...]
    views: tuple[ViewGain, ...]
    members: tuple[MemberGain, ...]
    correlation: tuple[tuple[float, ...], ...]
    evaluations: int

    @property
    def idle_views(self) -> tuple[str, ...]:
        """Views that do not pay for their time."""
        return tuple(view.view for view in self.views if not view.pays)


def anatomy(
    chosen: Chosen,
    bench: Bench,
    names: Sequence[str],
    own_MN: Float64,
    single: ImageScores,
    cost_ms: Mapping[tuple[int, str], float],
) -> Anatomy:
    """Take a choice apart.

    Args:
        names: of the candidates.
        own_MN: H of each candidate alone, under its own rule.
        single: cross-fitted scores of the single model that all is held against.
        cost_ms: of a candidate on a view, for one page, as `measure` gives it.
    """
    members = chosen.recipe.blend.members
    several = members if len(members) > 1 else ()
    return Anatomy(
        bench.fusion if several else "mean",  # of one there is none
        tuple(_rungs(chosen, bench, single, cost_ms)),
        tuple(ViewGain(view, gain, _cost(members, (view,), cost_ms)) for view, gain in chosen.views),
        tuple(
            MemberGain(
                names[member],
                chosen.recipe.blend.weights[member],
                without(member, chosen, bench),
                _cost((member,), chosen.recipe.blend.views, cost_ms),
            )
            for member in several
        ),
        correlation(own_MN[list(several)]),
        bench.evaluations,
    )


def without(member: int, chosen: Chosen, bench: Bench) -> Interval:
    """What the mean H loses without a member; a part whose recipe does not hold it loses nothing."""
    less = tuple(
        Recipe(recipe.blend.without(member), recipe.rule, recipe.flat)
        if member in recipe.blend.members and len(recipe.blend.members) > 1
        else recipe
        for recipe in chosen.by_part
    )
    bench.need({recipe.blend: [other.rule for other in less if other.blend == recipe.blend] for recipe in less})
    found = np.zeros_like(chosen.counts_NF)
    for part, recipe in enumerate(less):
        found[chosen.part_N == part] = bench.counts(recipe.blend, recipe.rule)[chosen.part_N == part]
    return paired_bootstrap(hmean_of(chosen.counts_NF), hmean_of(found))


def correlation(hmean_MN: Float64) -> tuple[tuple[float, ...], ...]:
    """Of the errors of each pair of members over the images; 1 with itself, 0 with one that errs alike everywhere."""
    error_MN = 1.0 - hmean_MN - (1.0 - hmean_MN).mean(axis=1, keepdims=True)
    size_M = np.sqrt((error_MN**2).sum(axis=1))
    size_MM = np.outer(size_M, size_M)
    found_MM = (error_MN @ error_MN.T) / np.where(size_MM > 0, size_MM, np.inf)
    np.fill_diagonal(found_MM, 1.0)
    return tuple(tuple(float(value) for value in row) for row in np.clip(found_MM, -1.0, 1.0))


def measure(
    checkpoints: Mapping[int, Path], views: Sequence[str], pages: Sequence[Page]
) -> dict[tuple[int, str], float]:
    """Milliseconds of one page, by candidate and view, on this machine (its GPU, where it has one)."""
    from detector.data.formats import read_image
    from detector.inference.predict import Predictor, map_of

    image = read_image(pages[0].path)
    found: dict[tuple[int, str], float] = {}
    for candidate, checkpoint in checkpoints.items():
        (member,) = Predictor.load(checkpoint).members
        for view in (views[0], *views):  # the first call warms up: libraries are loaded, buffers made
            began_s = time.perf_counter()
            map_of(member.network, image, member.config.image_size, (view,))
            found[candidate, view] = 1000.0 * (time.perf_counter() - began_s)
    return found


def _rungs(chosen: Chosen, bench: Bench, single: ImageScores, cost_ms: Mapping[tuple[int, str], float]) -> list[Rung]:
    single_N = single.stat_N("hmean")
    members, base = chosen.recipe.blend.members, chosen.recipe.blend.views[:1]

    def rung(name: str, views: tuple[str, ...], counts_NF: object, more: Interval | None, kept: bool) -> Rung:
        scores = image_scores(bench.names, np.asarray(counts_NF, dtype=np.int32))
        summary = scores.summary()
        gain = paired_bootstrap(scores.stat_N("hmean"), single_N)
        ms = _cost(members, views, cost_ms)
        return Rung(name, views, summary["hmean"], summary["precision"], summary["recall"], gain, more, kept, ms)

    rungs = [rung("one view" if chosen.alone else "equal weights", base, chosen.equal_NF, None, True)]
    for step in chosen.steps:
        name = step.name if step.name == "views" else f"{step.name} weights"
        rungs.append(rung(name, step.views, step.counts_NF, step.gain, step.taken))
    if chosen.steps:
        rungs.append(rung("chosen", chosen.recipe.blend.views, chosen.counts_NF, None, True))
    return rungs


def _cost(members: Sequence[int], views: Sequence[str], cost_ms: Mapping[tuple[int, str], float]) -> float | None:
    known = [(member, view) in cost_ms for member in members for view in views]
    return sum(cost_ms[member, view] for member in members for view in views) if known and all(known) else None
