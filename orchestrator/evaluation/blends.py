"""What weightings and views of a pool of models score: maps read once a page, blended and scored as often as asked.

A blend is a row of weights over the pool's candidates and a set of views. Nothing is trained or predicted here: the
maps are in the cache, one for each candidate and view, and a blend is fused from them exactly as a bundle fuses it
(`detector.inference.fusion`): a candidate's views by their mean, the candidates by the chosen fusion.

What is asked for together is computed together, page by page, so that each page's maps are read and decompressed once a
request however many blends it holds. Everything that was scored is kept.

Shapes: N images, F fields of `Counts`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.metrics.cleval import ground_truth
from detector.types import Page
from orchestrator.evaluation.scores import Variant
from orchestrator.evaluation.thresholds import Table, counts_row, groups, score_groups

if TYPE_CHECKING:
    from detector.inference.fusion import Fusion, PageMap

Weights = tuple[float, ...]
Progress = Callable[[int, int], None]


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
        threads: int | None = None,
        on_pages: Progress | None = None,
    ) -> None:
        """Args:
        map_of: candidate, view and page name -> map; called from several threads.
        on_pages: called with (pages done, pages of this request).
        """
        self.pages, self.rules, self.fusion = pages, tuple(rules), fusion
        self.names = tuple(page.name for page in pages)
        self.evaluations = 0
        self._map_of, self._variant = map_of, variant
        self._threads, self._on_pages = threads or os.cpu_count() or 1, on_pages
        self._tables: dict[Blend, Table] = {}
        self._counts: dict[tuple[Blend, int], NDArray[np.int32]] = {}

    def table(self, blend: Blend) -> Table:
        """What every rule makes of a blend."""
        self.need({blend: None})
        return self._tables[blend]

    def counts(self, blend: Blend, rule: int) -> NDArray[np.int32]:
        """What one rule makes of a blend on each image: (N, F)."""
        self.need({blend: (rule,)})
        found = self._tables.get(blend)
        return self._counts[blend, rule] if found is None else found.counts_RNF[rule]

    def need(self, wanted: Mapping[Blend, Iterable[int] | None]) -> None:
        """Score what is asked for and not yet known; None asks for all rules."""
        everything = tuple(range(len(self.rules)))
        jobs: list[tuple[Blend, tuple[int, ...]]] = []
        for blend, rules in wanted.items():
            if blend in self._tables:
                continue
            left = everything if rules is None else tuple(r for r in dict.fromkeys(rules) if not self._knows(blend, r))
            if left:
                jobs.append((blend, left))
        if not jobs:
            return
        for (blend, rules), counts_RNF in zip(jobs, self._scored(jobs), strict=True):
            if rules == everything:
                self._tables[blend] = Table(self.rules, self.names, counts_RNF)
            else:
                self._counts |= {(blend, rule): counts_RNF[row] for row, rule in enumerate(rules)}
            self.evaluations += len(rules)

    def _knows(self, blend: Blend, rule: int) -> bool:
        return (blend, rule) in self._counts

    def _scored(self, jobs: Sequence[tuple[Blend, tuple[int, ...]]]) -> list[NDArray[np.int32]]:
        """(rules, N, F) of each job."""
        grouped = {rules: groups([self.rules[rule] for rule in rules]) for rules in {rules for _, rules in jobs}}

        def column(page: Page) -> list[NDArray[np.int32]]:
            truth = ground_truth(page.words, self._variant)
            maps = _PageMaps(self._map_of, page.name)
            return [
                counts_row(score_groups(maps.blended(blend, self.fusion), truth, grouped[rules], len(rules)))
                for blend, rules in jobs
            ]

        columns: list[list[NDArray[np.int32]]] = []
        with ThreadPoolExecutor(self._threads) as pool:
            for found in pool.map(column, self.pages):
                columns.append(found)
                if self._on_pages:
                    self._on_pages(len(columns), len(self.pages))
        return [np.stack(rows, axis=1) for rows in zip(*columns, strict=True)]


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
