"""K folds of the training pages: drawn from a seed, alike in words and image sizes, groups and equal images whole.

Pages that belong together make one cluster: those of one group, and those whose images are equal byte by byte (else a
fold's model would be scored on what it has learned from). Clusters are put in order: those of most pages first, then
by the third of the set that their mean image area falls into, then by words, up in one third and down in the next. In
this order they are dealt, each to a fold with the fewest pages so far; which of several, the seed draws. So clusters
of one page are dealt in rounds of k neighbours, one to each fold (randomised blocks): folds differ in pages by one at
most, and in words by little more than the largest page has; with groups, in pages by the largest cluster at most. The
outcome depends on the set of pages, not on their order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from detector.errors import DataError

RULES: Final = 2  # version of the rules above, for saved assignments
AREAS: Final = 3  # parts that image areas are told apart by; of more, each would be too small to be dealt evenly


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a page is dealt by.

    Attributes:
        words: how many it has.
        area: of its image, px; equal ones are one stratum.
        content: digest of its image; equal ones share a fold.
    """

    name: str
    words: int = 0
    area: int = 0
    content: str = ""


def assign(sheets: Sequence[Sheet], k: int, seed: int, group: str | None = None) -> tuple[int, ...]:
    """For each page its fold, 0 .. k - 1; by the rules of this module.

    Args:
        group: regular expression on names; an equal match, or an equal first parenthesis, is one group.

    Raises:
        DataError: fewer clusters than folds, or a name that `group` does not match.
    """
    found = clusters(sheets, group)
    if len(found) < k:
        what = "pages" if group is None else f"groups by {group!r}"
        raise DataError(
            f"data.folds: k={k} folds need as many {what}, got {len(found)} (equal images count once); take a smaller k"
        )
    random = np.random.default_rng(seed)
    sizes, home = [0] * k, dict[str, int]()
    for cluster in _in_order(found, random):
        fewest = [fold for fold, size in enumerate(sizes) if size == min(sizes)]
        fold = fewest[int(random.integers(len(fewest)))]
        sizes[fold] += len(cluster)
        home |= {sheet.name: fold for sheet in cluster}
    return tuple(home[sheet.name] for sheet in sheets)


def clusters(sheets: Sequence[Sheet], group: str | None = None) -> list[tuple[Sheet, ...]]:
    """Pages that belong together, by name; two groups that share an equal image are one cluster."""
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    ordered = sorted(sheets, key=lambda sheet: sheet.name)
    for sheet in ordered:
        home = root(f"group {_group(sheet.name, group)}")
        if sheet.content:
            parent[root(f"image {sheet.content}")] = home
    members: dict[str, list[Sheet]] = {}
    for sheet in ordered:
        members.setdefault(root(f"group {_group(sheet.name, group)}"), []).append(sheet)
    return [tuple(sheets) for sheets in members.values()]


def _in_order(found: Sequence[tuple[Sheet, ...]], random: np.random.Generator) -> list[tuple[Sheet, ...]]:
    """The clusters as they are dealt; where all is equal, in an order that `random` draws."""
    areas_C = np.array([np.mean([sheet.area for sheet in cluster]) for cluster in found])
    bounds = np.unique(np.quantile(areas_C, np.arange(1, AREAS) / AREAS, method="lower"))
    third_C = np.searchsorted(bounds, areas_C, side="left")
    words_C = [sum(sheet.words for sheet in cluster) for cluster in found]

    def key(index: int) -> tuple[int, int, int]:
        third = int(third_C[index])
        return -len(found[index]), third, words_C[index] * (-1) ** third

    return [found[index] for index in sorted(random.permutation(len(found)).tolist(), key=key)]


def _group(name: str, pattern: str | None) -> str:
    if pattern is None:
        return name
    match = re.search(pattern, name)
    if match is None:
        raise DataError(f"data.folds.group: {pattern!r} matches nothing in {name}; every page needs a group")
    return match[1] if match.re.groups else match[0]


def sizes_of(folds: Sequence[int], weights: Sequence[int] | None = None) -> tuple[int, ...]:
    """Pages of each fold, or what their weights sum to."""
    totals = [0] * (max(folds, default=-1) + 1)
    for fold, weight in zip(folds, weights if weights is not None else [1] * len(folds), strict=True):
        totals[fold] += weight
    return tuple(totals)
