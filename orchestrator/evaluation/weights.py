"""Weights of an ensemble's members, learned from per-image scores: bagged greedy selection, and search on the simplex.

Both look for the weights with the highest mean H of some images under one rule. Weights found so flatter themselves on
those images (greedy ones showed .0012-.0015 that was not there, see docs), so whoever calls them gives images that take
no part in the judgement, and keeps equal weights unless these are surely beaten.

*Greedy* (Caruana et al. 2004, "Ensemble Selection from Libraries of Models", ICML): members are added one after the
other, with replacement, each time the one that helps most; the best stage of the way counts. Its *bags* are draws of
images with replacement (a pool of a handful of models leaves nothing to draw models from); their weights are averaged.

*Simplex*: a pattern search (Kolda, Lewis and Torczon 2003, SIAM Review 45) from equal weights: every member's share is
moved up and down by a step; the best move that gains is taken, and where none does the step is halved.

Many hunts, for other parts of the images, go on side by side, so that each stage scores all that they ask for at once.
Bounds: greedy selection asks for at most `EVALUATIONS` weightings under one rule, whatever bags and parts there are,
since only so many can be reached in `stages` steps; the simplex for 2 x members x `ROUNDS` of each hunt.

Shapes: N images, M candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

from detector.types import Float64
from orchestrator.evaluation.blends import Weights, normal

BAGS: Final = 5
EVALUATIONS: Final = 500
MOST_STAGES: Final = 12  # weights in twelfths: finer than any set of images can tell
STEP: Final = 0.25
ROUNDS: Final = 6
GAIN: Final = 1e-9  # less is rounding


@dataclass(frozen=True, slots=True)
class Hunt:
    """A search of weights.

    Attributes:
        key: what else the scores depend on (views, rule).
        image_N: images that may be looked at.
        seed: of the bags.
    """

    key: Hashable
    image_N: NDArray[np.bool_]
    seed: tuple[int, ...] = ()


# (key, weights) of each -> H of every image
Score = Callable[[Sequence[tuple[Hashable, Weights]]], Sequence[Float64]]


def stages(candidates: int) -> int:
    """Steps of a greedy selection: at most EVALUATIONS weightings can be reached in them (three at least)."""
    fitting = [s for s in range(3, MOST_STAGES + 1) if comb(candidates + s, s) - 1 <= EVALUATIONS]
    return max(fitting, default=3)


@dataclass(slots=True)
class _Path:
    """One bag's way through the weightings."""

    hunt: Hunt
    share_N: Float64
    counts: list[int]
    best: float = -np.inf
    best_counts: list[int] = field(default_factory=list)


def greedy(hunts: Sequence[Hunt], score: Score, candidates: int, most: int) -> list[Weights]:
    """Weights of each hunt.

    Args:
        most: members at most.
    """
    paths = [_Path(hunt, _bag(hunt, number), [0] * candidates) for hunt in hunts for number in range(BAGS)]
    for _ in range(stages(candidates)):
        grown = [[_more(path.counts, m) for m in _addable(path.counts, most)] for path in paths]
        known = _scored(
            score, ((path.hunt.key, normal(to)) for path, tos in zip(paths, grown, strict=True) for to in tos)
        )
        for path, tos in zip(paths, grown, strict=True):
            worth = [float(path.share_N @ known[path.hunt.key, normal(to)]) for to in tos]
            first = int(np.argmax(worth))
            path.counts = tos[first]
            if worth[first] > path.best + GAIN:
                path.best, path.best_counts = worth[first], tos[first]
    return [
        trimmed(np.mean([normal(path.best_counts) for path in paths[start : start + BAGS]], axis=0).tolist(), most)
        for start in range(0, len(paths), BAGS)
    ]


def simplex(hunts: Sequence[Hunt], starts: Sequence[Weights], score: Score, most: int) -> list[Weights]:
    """Weights of each hunt, from those of `starts`."""
    at = list(starts)
    steps = [STEP] * len(hunts)
    for _ in range(ROUNDS):
        moves = [_moves(point, step, most) for point, step in zip(at, steps, strict=True)]
        asked = ((hunt.key, w) for hunt, point, tos in zip(hunts, at, moves, strict=True) for w in (point, *tos))
        known = _scored(score, asked)
        for number, hunt in enumerate(hunts):
            worth = {w: float(known[hunt.key, w][hunt.image_N].mean()) for w in (at[number], *moves[number])}
            best = max(worth, key=lambda w: worth[w])
            if worth[best] > worth[at[number]] + GAIN:
                at[number] = best
            else:
                steps[number] /= 2
    return at


def trimmed(weights: Sequence[float], most: int) -> Weights:
    """The `most` largest of them; of equal ones the first."""
    order = sorted(range(len(weights)), key=lambda index: -weights[index])[:most]
    return normal([weight if index in order else 0.0 for index, weight in enumerate(weights)])


def _scored(score: Score, asked: Iterable[tuple[Hashable, Weights]]) -> dict[tuple[Hashable, Weights], Float64]:
    wanted = list(dict.fromkeys(asked))
    return dict(zip(wanted, score(wanted), strict=True))


def _bag(hunt: Hunt, number: int) -> Float64:
    """The share that each image has in a bag."""
    (images,) = np.nonzero(hunt.image_N)
    drawn = np.random.default_rng((number, *hunt.seed)).choice(images, len(images))
    return np.bincount(drawn, minlength=len(hunt.image_N)) / len(images)


def _addable(counts: Sequence[int], most: int) -> list[int]:
    members = sum(count > 0 for count in counts)
    return [m for m, count in enumerate(counts) if count > 0 or members < most]


def _more(counts: Sequence[int], member: int) -> list[int]:
    return [count + (index == member) for index, count in enumerate(counts)]


def _moves(point: Weights, step: float, most: int) -> list[Weights]:
    """Every share a step up (towards the member alone), and every member's a step down, to 0 at least."""
    members = sum(weight > 0 for weight in point)
    found = []
    for m, weight in enumerate(point):
        if (weight > 0 or members < most) and weight < 1:
            found.append(normal([(1 - step) * w + step * (i == m) for i, w in enumerate(point)]))
        if 0 < weight < 1:
            found.append(normal([max(0.0, w - step) if i == m else w for i, w in enumerate(point)]))
    return list(dict.fromkeys(w for w in found if w != point))
