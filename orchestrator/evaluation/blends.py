"""What weightings and views of a pool of models score: maps read once a page, blended and scored as often as asked.

A blend is a row of weights over the pool's candidates and a set of views. Nothing is trained or predicted here: the
maps are in the cache, one for each candidate and view, and a blend is fused from them exactly as a bundle fuses it
(`detector.inference.fusion`): a candidate's views by their mean, the candidates by the chosen fusion.

What is asked for together is computed together, page by page, so that each page's maps are read and decompressed once a
request however many blends it holds; a long request goes to the cluster (`orchestrator.evaluation.spreading`).
Everything that was scored is kept, most of it in files; only the tables looked at last are held.

Shapes: N images, F fields of `Counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.metrics.cleval import ground_truth
from detector.types import Page
from orchestrator.evaluation.packing import packed
from orchestrator.evaluation.scores import Variant
from orchestrator.evaluation.spreading import SPREAD_S, PageCounts, Scratch, score_pages
from orchestrator.evaluation.thresholds import Group, Table, counts_row, groups, score_groups

if TYPE_CHECKING:
    from detector.inference.fusion import Fusion, PageMap

Weights = tuple[float, ...]
Progress = Callable[[int, int], None]
HELD: Final = 8  # tables in memory; of 5,000 rules and 400 pages each takes 90 MB


@dataclass(frozen=True, slots=True)
class Blend:
    """Attributes:
    weights: one a candidate, summing to 1; one of weight 0 is no member.
    views: what each member sees.
    """

    weights: Weights
    views: tuple[str, ...]

    @property
    def members(self) -> tuple[int, ...]:
        """Indices of the candidates that take part."""
        return tuple(index for index, weight in enumerate(self.weights) if weight > 0)

    def without(self, member: int) -> Blend:
        """The others, in the same proportions."""
        return Blend(normal([0.0 if i == member else w for i, w in enumerate(self.weights)]), self.views)


def normal(weights: Sequence[float]) -> Weights:
    """Weights that sum to 1, to six digits: two ways to the same blend are one."""
    total = float(sum(weights))
    return tuple(round(weight / total, 6) for weight in weights)


def equal_weights(members: Iterable[int], candidates: int) -> Weights:
    """Each member the same, the other candidates 0."""
    inside = set(members)
    return normal([1.0 if index in inside else 0.0 for index in range(candidates)])


class Bench:
    """Blends scored on one set of pages under one grid of rules.

    Attributes:
        evaluations: pairs of a blend and a rule scored so far, on all pages.
    """

    def __init__(
        self,
        map_of: Callable[[int, str, str], PageMap],
        pages: Sequence[Page],
        rules: Sequence[Postprocess],
        variant: Variant,
        fusion: Fusion = "mean",
        *,
        kept: Scratch | None = None,
        threads: int | None = None,
        on_pages: Progress | None = None,
        spread_s: float = SPREAD_S,
    ) -> None:
        """Args:
        map_of: candidate, view and page name -> map; called from several threads or, with `kept`, processes.
        on_pages: called with (pages done, pages of this request).
        kept, threads, spread_s: see `spreading.score_pages`.
        """
        self.pages, self.rules, self.fusion = pages, tuple(rules), fusion
        self.names = tuple(page.name for page in pages)
        self.evaluations = 0
        self._map_of, self._variant, self._kept = map_of, variant, kept
        self._ways: Mapping[str, Any] = {"threads": threads, "on_pages": on_pages, "spread_s": spread_s}
        self._rows: dict[Blend, tuple[list[PageCounts], int]] = {}  # of all rules: where they begin in each page's
        self._tables: dict[Blend, Table] = {}  # the one looked at last stands last
        self._counts: dict[tuple[Blend, int], NDArray[np.int32]] = {}

    def table(self, blend: Blend) -> Table:
        """What every rule makes of a blend."""
        self.need({blend: None})
        table = self._tables.pop(blend, None)
        if table is None:
            columns, start = self._rows[blend]
            table = Table(self.rules, self.names, _cut(columns, start, len(self.rules)))
        self._tables[blend] = table
        if len(self._tables) > HELD:
            del self._tables[next(iter(self._tables))]
        return table

    def counts(self, blend: Blend, rule: int) -> NDArray[np.int32]:
        """What one rule makes of a blend on each image: (N, F)."""
        self.need({blend: (rule,)})
        if blend not in self._rows:
            return self._counts[blend, rule]
        columns, start = self._rows[blend]
        return np.stack([counts_TF[start + rule] for counts_TF in columns])

    def need(self, wanted: Mapping[Blend, Iterable[int] | None]) -> None:
        """Score what is asked for and not yet known; None asks for all rules."""
        everything = tuple(range(len(self.rules)))
        jobs: list[tuple[Blend, tuple[int, ...]]] = []
        for blend, rules in wanted.items():
            if blend in self._rows:
                continue
            left = everything if rules is None else tuple(r for r in dict.fromkeys(rules) if not self._knows(blend, r))
            if left:
                jobs.append((blend, left))
        if not jobs:
            return
        columns, start = self._scored(jobs), 0
        for blend, rules in jobs:
            if rules == everything:
                self._rows[blend] = (columns, start)
            else:
                counts_RNF = _cut(columns, start, len(rules))
                self._counts |= {(blend, rule): counts_RNF[row] for row, rule in enumerate(rules)}
            self.evaluations += len(rules)
            start += len(rules)

    def _knows(self, blend: Blend, rule: int) -> bool:
        return (blend, rule) in self._counts

    def _scored(self, jobs: Sequence[tuple[Blend, tuple[int, ...]]]) -> list[PageCounts]:
        """Of each page the rows of all jobs, in their order."""
        grouped = {rules: groups([self.rules[rule] for rule in rules]) for rules in {rules for _, rules in jobs}}
        score = BlendScore(
            self._map_of,
            tuple((blend, grouped[rules], len(rules)) for blend, rules in jobs),
            self.fusion,
            self._variant,
        )
        kept = self._kept and self._kept.of([[blend.weights, blend.views, rules] for blend, rules in jobs])
        return score_pages(score, self.pages, sum(len(rules) for _, rules in jobs), kept, **self._ways)


def _cut(columns: Sequence[PageCounts], start: int, rows: int) -> NDArray[np.int32]:
    """(rows, N, F): so many rows of every page."""
    return np.stack([counts_TF[start : start + rows] for counts_TF in columns], axis=1)


@dataclass(frozen=True, slots=True)
class BlendScore:
    """What blends score on a page.

    Attributes:
        jobs: a blend, its rules as `thresholds.groups` has put them together, and how many they are.
    """

    map_of: Callable[[int, str, str], PageMap]
    jobs: tuple[tuple[Blend, dict[float, list[Group]], int], ...]
    fusion: Fusion
    variant: Variant

    def __call__(self, page: Page) -> PageCounts:
        truth, maps = ground_truth(page.words, self.variant), _PageMaps(self.map_of, page.name)
        return np.concatenate(
            [
                counts_row(score_groups(maps.blended(blend, self.fusion), truth, grouped, rules))
                for blend, grouped, rules in self.jobs
            ]
        )

    def packed(self, names: Sequence[str]) -> BlendScore:
        """See `spreading.Score`."""
        return replace(self, map_of=packed(self.map_of, names))


class _PageMaps:
    """The maps of one page, each read once."""

    def __init__(self, map_of: Callable[[int, str, str], PageMap], name: str) -> None:
        self._map_of, self._name = map_of, name
        self._seen: dict[tuple[int, str], PageMap] = {}
        self._members: dict[tuple[int, tuple[str, ...]], PageMap] = {}

    def blended(self, blend: Blend, fusion: Fusion) -> PageMap:
        from detector.inference.fusion import fuse

        members = blend.members
        return fuse([self._member(m, blend.views) for m in members], [blend.weights[m] for m in members], fusion)

    def _member(self, candidate: int, views: tuple[str, ...]) -> PageMap:
        from detector.inference.fusion import fuse

        if (candidate, views) not in self._members:
            for view in views:
                if (candidate, view) not in self._seen:
                    self._seen[candidate, view] = self._map_of(candidate, view, self._name)
            self._members[candidate, views] = fuse([self._seen[candidate, view] for view in views])
        return self._members[candidate, views]
