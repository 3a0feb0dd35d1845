"""Post-processing rules searched offline, on cached maps, and chosen without flattering themselves.

A rule that is chosen and scored on the same images looks better than it is (.00045 on 413 images), so a search reports
cross-fitted scores: the images are split in K parts, and each part is scored under the rule chosen on the others. The
rule that ships is chosen on all of them. A choice prefers the flat top to the peak: among the rules within one standard
error of the best (paired over images; the rule of Breiman et al. 1984, section 3.4.3) it takes the one whose neighbours
on the grid score best on average.

Shapes: R rules, N images, K parts, F fields of `Counts`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.metrics.cleval import Counts, GroundTruth, cleval_prefixes, ground_truth
from detector.types import Detections, Float64, Page
from orchestrator.evaluation.packing import packed
from orchestrator.evaluation.scores import ImageScores, Variant
from orchestrator.evaluation.spreading import SPREAD_S, Scratch, score_pages

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from detector.inference.predict import PageMap

PARTS: Final = 5  # K of the cross-fitting; Hastie et al. 2009, "Elements of Statistical Learning", section 7.10
_KNOBS: Final = ("thresh", "box_thresh", "max_candidates", "min_side_px", "epsilon")
_FIELDS: Final = attrgetter(*Counts.__slots__)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What every rule scores on every image.

    Attributes:
        counts_RNF: the fields of `Counts`, in their order.
        hmean_RN: their harmonic means, by which rules are chosen.
    """

    rules: tuple[Postprocess, ...]
    names: tuple[str, ...]
    counts_RNF: NDArray[np.int32]
    hmean_RN: Float64 = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hmean_RN", hmean_of(self.counts_RNF))

    def scores(self, index: int) -> ImageScores:
        """What one rule scores."""
        return image_scores(self.names, self.counts_RNF[index])


def hmean_of(counts_F: NDArray[np.int32]) -> Float64:
    """`Counts.hmean` of counts in the last axis."""
    chars_gt, chars_det, _, hit, gran_recall, gran_precision = (counts_F[..., i].astype(np.float64) for i in range(6))
    recall = np.maximum(hit - gran_recall, 0.0) / np.where(chars_gt > 0, chars_gt, np.inf)
    precision = np.maximum(hit - gran_precision, 0.0) / np.where(chars_det > 0, chars_det, np.inf)
    total = recall + precision
    return np.asarray(2.0 * recall * precision / np.where(total > 0, total, 1.0), dtype=np.float64)


def image_scores(names: tuple[str, ...], counts_NF: NDArray[np.int32]) -> ImageScores:
    """Counts of each image as the rest of the house holds them."""
    return ImageScores(names, tuple(Counts.from_row(row) for row in counts_NF.tolist()))


def counts_row(counts: Sequence[Counts]) -> NDArray[np.int32]:
    """The fields of each, one row each."""
    return np.array([_FIELDS(count) for count in counts], dtype=np.int32).reshape(len(counts), len(Counts.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """A rule, and what choosing one is worth.

    Attributes:
        rule: chosen on all images; this one ships.
        table: which of the tables it stands in.
        index: its place among that table's rules.
        flat: how many rules lie within one standard error of the best.
        shown: scores of `rule` on the images it was chosen on (optimistic).
        crossfitted: each image under the rule that the other parts chose (honest).
        by_part: for each part, index and table of the rule it was scored under.
    """

    rule: Postprocess
    table: int
    index: int
    flat: int
    shown: ImageScores
    crossfitted: ImageScores
    by_part: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class RuleScore:
    """What each of so many rules scores on a page, under one map a page."""

    map_of: Callable[[str], PageMap]
    grouped: dict[float, list[Group]]
    rules: int
    variant: Variant

    def __call__(self, page: Page) -> NDArray[np.int32]:
        truth = ground_truth(page.words, self.variant)
        return counts_row(score_groups(self.map_of(page.name), truth, self.grouped, self.rules))

    def packed(self, names: Sequence[str]) -> RuleScore:
        """See `spreading.Score`."""
        return replace(self, map_of=packed(self.map_of, names))


def search(
    map_of: Callable[[str], PageMap],
    pages: Sequence[Page],
    rules: Sequence[Postprocess],
    variant: Variant,
    kept: Scratch | None = None,
    *,
    threads: int | None = None,
    on_pages: Callable[[int, int], None] | None = None,
    spread_s: float = SPREAD_S,
) -> Table:
    """Score every rule on every page.

    Contours are found and scored once for each `thresh`, words made once for all rules that differ in `box_thresh`
    alone: a higher one only cuts their list, which comes best score first. Areas and inclusions serve the whole list.

    Args:
        map_of: the map of a page by its name; called once a page, from several threads or, with `kept`, processes.
        kept, threads, on_pages, spread_s: see `spreading.score_pages`.

    Raises:
        ValueError: no rules or no pages.
    """
    if not rules or not pages:
        raise ValueError(f"a search needs rules and pages, got {len(rules)} and {len(pages)}")
    score = RuleScore(map_of, groups(rules), len(rules), variant)
    columns = score_pages(score, pages, len(rules), kept, threads=threads, on_pages=on_pages, spread_s=spread_s)
    return Table(tuple(rules), tuple(page.name for page in pages), np.stack(columns, axis=1))


def score_rules(page_map: PageMap, page: Page, rules: Sequence[Postprocess], variant: Variant) -> list[Counts]:
    """Counts of one page under each rule, equal to those of `words_of_page` and `cleval` for each."""
    return score_groups(page_map, ground_truth(page.words, variant), groups(rules), len(rules))


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that differ in `box_thresh` alone: their indices and values, and the one of them that keeps most."""

    indices: tuple[int, ...]
    box_thresh: tuple[float, ...]
    lowest: Postprocess


def groups(rules: Sequence[Postprocess]) -> dict[float, list[Group]]:
    """Rules by what can be computed once: by `thresh`, then by all but `box_thresh`."""
    alike: dict[float, dict[Any, list[int]]] = {}
    for index, rule in enumerate(rules):
        rest = tuple(value for name, value in rule if name != "box_thresh")
        alike.setdefault(rule.thresh, {}).setdefault(rest, []).append(index)
    return {
        thresh: [
            Group(
                tuple(indices),
                tuple(rules[index].box_thresh for index in indices),
                min((rules[index] for index in indices), key=lambda rule: rule.box_thresh),
            )
            for indices in same.values()
        ]
        for thresh, same in alike.items()
    }


def score_groups(page_map: PageMap, truth: GroundTruth, grouped: dict[float, list[Group]], rules: int) -> list[Counts]:
    """Counts of one page under each of so many rules, which `groups` has put together."""
    from detector.inference.postprocess import find_candidates, words_from_candidates

    counts: list[Counts] = [Counts()] * rules
    for thresh, same in grouped.items():
        candidates = find_candidates(page_map.prob_HW, thresh, min(group.lowest.min_side_px for group in same))
        for group in same:
            found = words_from_candidates(candidates, group.lowest)
            polygons = _in_image(page_map, found)
            # Best score first: so many of them reach each threshold.
            kept = np.searchsorted(-found.scores_N, -np.array(group.box_thresh), side="right").tolist()
            for index, count in zip(group.indices, cleval_prefixes(truth, polygons, kept, truth.variant), strict=True):
                counts[index] = count
    return counts


def _in_image(page_map: PageMap, found: Detections) -> list[Float64]:
    if not found.polygons:
        return []
    points = page_map.frame.to_image(np.concatenate(found.polygons), clip=True)
    polygons, start = [], 0
    for polygon in found.polygons:
        polygons.append(points[start : start + len(polygon)])
        start += len(polygon)
    return polygons


def choose(
    tables: Sequence[Table], *, parts: int = PARTS, seed: int = 0, part_N: NDArray[np.int64] | None = None
) -> Choice:
    """The rule to ship and the cross-fitted scores of choosing it so (with a single image there are none to be had).

    Args:
        tables: one, or several over the same images (other members of an ensemble, say), among which is chosen as well;
            of equal ones the first.
        part_N: the part of each image, such as its fold; drawn from `seed` unless given.
    """
    near = [neighbours(table.rules) for table in tables]
    names = tables[0].names
    part_N = split(len(names), parts, seed) if part_N is None else part_N
    index, flat, place = pick(tables, near, np.ones(len(names), dtype=bool))
    by_part = tuple(
        pick(tables, near, part_N != part)[::2] if (part_N != part).any() else (index, place)
        for part in range(int(part_N.max()) + 1)
    )
    crossfitted = np.stack(
        [tables[by_part[part][1]].counts_RNF[by_part[part][0], image] for image, part in enumerate(part_N.tolist())]
    )
    return Choice(
        tables[place].rules[index],
        place,
        index,
        flat,
        tables[place].scores(index),
        image_scores(names, crossfitted),
        by_part,
    )


def pick(tables: Sequence[Table], near: Sequence[csr_array], image_N: NDArray[np.bool_]) -> tuple[int, int, int]:
    """Index of the rule that some images choose, how many rules its flat top has, and which table it stands in."""
    found = [(*flat_top(table.hmean_RN[:, image_N], near[place]), place) for place, table in enumerate(tables)]
    worth = [float(tables[place].hmean_RN[index, image_N].mean()) for index, _, place in found]
    return found[int(np.argmax(worth))]


def split(images: int, parts: int, seed: int) -> NDArray[np.int64]:
    """The part of each image: a seeded shuffle dealt out in turn, so that sizes differ by one at most."""
    part_N = np.empty(images, dtype=np.int64)
    part_N[np.random.default_rng(seed).permutation(images)] = np.arange(images) % min(parts, images)
    return part_N


def flat_top(hmean_RN: Float64, near_RR: csr_array) -> tuple[int, int]:
    """Index of the rule in the middle of the top, and how many rules the top has."""
    mean_R = hmean_RN.mean(axis=1)
    best = int(mean_R.argmax())
    images = hmean_RN.shape[1]
    behind_RN = hmean_RN[best] - hmean_RN
    error_R = behind_RN.std(axis=1, ddof=1) / np.sqrt(images) if images > 1 else np.zeros(len(mean_R))
    top_R = mean_R[best] - mean_R <= error_R
    around_R = (near_RR @ mean_R) / near_RR.sum(axis=1)
    return int(np.where(top_R, around_R, -np.inf).argmax()), int(top_R.sum())


def neighbours(rules: Sequence[Postprocess]) -> csr_array:
    """Which rules are at most one step of the grid apart in every knob, of one shape and one way to unclip.

    Each is its own neighbour. (R, R) of 0 and 1; sparse, since thousands of rules have dozens of neighbours each.
    """
    from scipy.sparse import csr_array  # where rules are chosen: `check` chooses none

    values_RK = np.array([[_growth(rule), *(float(getattr(rule, knob)) for knob in _KNOBS)] for rule in rules])
    ranks_RK = np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values_RK.T], axis=1)
    at: dict[tuple[Any, ...], list[int]] = {}
    for index, (rule, ranks) in enumerate(zip(rules, ranks_RK.tolist(), strict=True)):
        at.setdefault((rule.shape, rule.unclip, *ranks), []).append(index)
    steps = list(product(*[(-1, 0, 1) if column.any() else (0,) for column in ranks_RK.T]))
    rows, columns = [], []
    for (shape, unclip, *ranks), here in at.items():
        there = [
            other
            for step in steps
            for other in at.get((shape, unclip, *(rank + by for rank, by in zip(ranks, step, strict=True))), ())
        ]
        for index in here:
            rows += [index] * len(there)
            columns += there
    return csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(rules), len(rules)))


def _growth(rule: Postprocess) -> float:
    """The knob of the rule's way to unclip; the signs keep the two ways from standing between each other's steps."""
    return rule.unclip_ratio if rule.unclip == "ratio" else -rule.shrink_ratio
