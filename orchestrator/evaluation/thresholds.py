"""Post-processing rules searched offline, on cached maps, and chosen without flattering themselves.

A rule that is chosen and scored on the same images looks better than it is (.00045 on 413 images), so a search reports
cross-fitted scores: the images are split in K parts, and each part is scored under the rule chosen on the others. The
rule that ships is chosen on all of them. A choice prefers the flat top to the peak: among the rules within one standard
error of the best (paired over images; the rule of Breiman et al. 1984, section 3.4.3) it takes the one whose neighbours
on the grid score best on average.

Shapes: R rules, N images, K parts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.metrics.cleval import Counts, cleval_prefixes, ground_truth
from detector.types import Detections, Float64, Page
from orchestrator.evaluation.scores import ImageScores, Variant

if TYPE_CHECKING:
    from detector.inference.predict import PageMap

PARTS: Final = 5  # K of the cross-fitting; Hastie et al. 2009, "Elements of Statistical Learning", section 7.10
_KNOBS: Final = ("thresh", "box_thresh", "max_candidates", "min_side_px", "epsilon")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What every rule scores on every image.

    Attributes:
        counts: R rows of N counts.
        hmean_RN: their harmonic means, by which rules are chosen.
    """

    rules: tuple[Postprocess, ...]
    names: tuple[str, ...]
    counts: tuple[tuple[Counts, ...], ...]
    hmean_RN: Float64 = field(init=False)

    def __post_init__(self) -> None:
        rows = [[count.hmean for count in row] for row in self.counts]
        object.__setattr__(self, "hmean_RN", np.array(rows, dtype=np.float64).reshape(len(self.rules), len(self.names)))


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


def search(
    map_of: Callable[[str], PageMap],
    pages: Sequence[Page],
    rules: Sequence[Postprocess],
    variant: Variant,
    *,
    threads: int | None = None,
    on_pages: Callable[[int, int], None] | None = None,
) -> Table:
    """Score every rule on every page.

    Contours are found and scored once for each `thresh`, words made once for all rules that differ in `box_thresh`
    alone: a higher one only cuts their list, which comes best score first. Areas and inclusions serve the whole list.

    Args:
        map_of: the map of a page by its name; called once a page, from several threads.
        threads: of this process; the loops underneath release the interpreter's lock. None takes the machine's cores.
        on_pages: called with (pages done, pages in all).

    Raises:
        ValueError: no rules or no pages.
    """
    if not rules or not pages:
        raise ValueError(f"a search needs rules and pages, got {len(rules)} and {len(pages)}")

    def row(page: Page) -> list[Counts]:
        return score_rules(map_of(page.name), page, rules, variant)

    columns: list[list[Counts]] = []
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        for column in pool.map(row, pages):
            columns.append(column)
            if on_pages:
                on_pages(len(columns), len(pages))
    return Table(tuple(rules), tuple(page.name for page in pages), tuple(zip(*columns, strict=True)))


def score_rules(page_map: PageMap, page: Page, rules: Sequence[Postprocess], variant: Variant) -> list[Counts]:
    """Counts of one page under each rule, equal to those of `words_of_page` and `cleval` for each."""
    from detector.inference.postprocess import find_candidates, words_from_candidates

    truth = ground_truth(page.words, variant)
    counts: dict[int, Counts] = {}
    for thresh in dict.fromkeys(rule.thresh for rule in rules):
        alike = [index for index, rule in enumerate(rules) if rule.thresh == thresh]
        candidates = find_candidates(page_map.prob_HW, thresh, min(rules[index].min_side_px for index in alike))
        groups: dict[Postprocess, list[int]] = {}
        for index in alike:
            groups.setdefault(rules[index].model_copy(update={"box_thresh": 0.0}), []).append(index)
        for indices in groups.values():
            lowest = min((rules[index] for index in indices), key=lambda rule: rule.box_thresh)
            found = words_from_candidates(candidates, lowest)
            polygons = _in_image(page_map, found)
            kept = [int(np.count_nonzero(found.scores_N >= rules[index].box_thresh)) for index in indices]
            counts.update(zip(indices, cleval_prefixes(truth, polygons, kept, variant), strict=True))
    return [counts[index] for index in range(len(rules))]


def _in_image(page_map: PageMap, found: Detections) -> list[Float64]:
    if not found.polygons:
        return []
    points = page_map.frame.to_image(np.concatenate(found.polygons), clip=True)
    return np.split(points, np.cumsum([len(polygon) for polygon in found.polygons])[:-1])


def choose(tables: Sequence[Table], *, parts: int = PARTS, seed: int = 0) -> Choice:
    """The rule to ship and the cross-fitted scores of choosing it so (with a single image there are none to be had).

    Args:
        tables: one, or several over the same images (other members of an ensemble, say), among which is chosen as well;
            of equal ones the first.
    """
    near = [neighbours(table.rules) for table in tables]

    def pick(image_N: NDArray[np.bool_]) -> tuple[int, int, int]:
        found = [(*flat_top(table.hmean_RN[:, image_N], near[place]), place) for place, table in enumerate(tables)]
        worth = [float(tables[place].hmean_RN[index, image_N].mean()) for index, _, place in found]
        return found[int(np.argmax(worth))]

    names = tables[0].names
    index, flat, place = pick(np.ones(len(names), dtype=bool))
    part_N = split(len(names), parts, seed)
    by_part = tuple(
        pick(part_N != part)[::2] if (part_N != part).any() else (index, place) for part in range(int(part_N.max()) + 1)
    )
    crossfitted = []
    for image, part in enumerate(part_N):
        its_index, its_place = by_part[part]
        crossfitted.append(tables[its_place].counts[its_index][image])
    return Choice(
        tables[place].rules[index],
        place,
        index,
        flat,
        ImageScores(names, tables[place].counts[index]),
        ImageScores(names, tuple(crossfitted)),
        by_part,
    )


def split(images: int, parts: int, seed: int) -> NDArray[np.int64]:
    """The part of each image: a seeded shuffle dealt out in turn, so that sizes differ by one at most."""
    part_N = np.empty(images, dtype=np.int64)
    part_N[np.random.default_rng(seed).permutation(images)] = np.arange(images) % min(parts, images)
    return part_N


def flat_top(hmean_RN: Float64, near_RR: NDArray[np.bool_]) -> tuple[int, int]:
    """Index of the rule in the middle of the top, and how many rules the top has."""
    mean_R = hmean_RN.mean(axis=1)
    best = int(mean_R.argmax())
    images = hmean_RN.shape[1]
    behind_RN = hmean_RN[best] - hmean_RN
    error_R = behind_RN.std(axis=1, ddof=1) / np.sqrt(images) if images > 1 else np.zeros(len(mean_R))
    top_R = mean_R[best] - mean_R <= error_R
    around_R = (near_RR @ mean_R) / near_RR.sum(axis=1)
    return int(np.where(top_R, around_R, -np.inf).argmax()), int(top_R.sum())


def neighbours(rules: Sequence[Postprocess]) -> NDArray[np.bool_]:
    """Which rules are at most one step of the grid apart in every knob, of one shape and one way to unclip.

    Each is its own neighbour.
    """
    values_RK = np.array([[_growth(rule), *(float(getattr(rule, knob)) for knob in _KNOBS)] for rule in rules])
    ranks_RK = np.stack([np.unique(column, return_inverse=True)[1].ravel() for column in values_RK.T], axis=1)
    shapes_R = np.array([f"{rule.shape} {rule.unclip}" for rule in rules])
    near_RR: NDArray[np.bool_] = shapes_R[:, None] == shapes_R[None, :]
    for rank_R in ranks_RK.T:
        near_RR &= np.abs(rank_R[:, None] - rank_R[None, :]) <= 1
    return near_RR


def _growth(rule: Postprocess) -> float:
    """The knob of the rule's way to unclip; the signs keep the two ways from standing between each other's steps."""
    return rule.unclip_ratio if rule.unclip == "ratio" else -rule.shrink_ratio
