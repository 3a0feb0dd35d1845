"""CLEval: character-level evaluation of text detection (Baek et al. 2020, arXiv 2006.06244), in two variants.

`official` gives every count of PyPI `cleval` 0.1.1 (`CLEvalMetric`) for quads; `competition`, the default, is the
scorer of the receipt competition. In both, a word is a row of pseudo-character centres; a detection has the centres
that lie in it and an area precision, intersection / own area; matches are one-to-one, one-to-many and many-to-one;
recall and precision are characters less a penalty of (pieces - 1). Where the variants differ stands in `truth.py` and
in `characters.py`.

Shapes: G words, D detections, C centres of all words, V vertices of one polygon. Coordinates in px of the image frame.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from detector.metrics.shapes import Packed, common_areas, pack
from detector.metrics.truth import VARIANTS, GroundTruth, Variant, ground_truth, vertices
from detector.types import Float64, Word

__all__ = [
    "Counts", "GroundTruth", "Score", "Variant", "cleval", "cleval_prefixes", "ground_truth", "harmonic_mean", "macro",
    "micro",
]  # fmt: skip

# Baek et al. 2020, section 3.1: a detection matches a word when at least this much of its area lies on it.
AREA_PRECISION = 0.3
CONSTRAINT = np.float32(AREA_PRECISION)  # one area precision is compared as float32 in cleval, their sum is not


@dataclass(frozen=True, slots=True)
class Score:
    """Recall, precision and their harmonic mean, each in [0, 1] (of a macro score each is a mean of its own)."""

    recall: float
    precision: float
    hmean: float


@dataclass(frozen=True, slots=True)
class Counts:
    """What one image adds to a score. Plain integers, so that processes can exchange them.

    Attributes:
        chars_gt: characters of the words that count.
        chars_det: characters of the detections that count: centres in matched ones (each as often as it is covered),
            plus `chars_fp`.
        chars_fp: characters taken for those of detections that match nothing.
        chars_hit: centres found, each once.
        gran_recall, gran_precision: penalties, pieces - 1 of each split word and of each merging detection.
        splits, merges: words that were split, detections that merge.
        overlaps: centres found more than once, each time after the first.
    """

    chars_gt: int = 0
    chars_det: int = 0
    chars_fp: int = 0
    chars_hit: int = 0
    gran_recall: int = 0
    gran_precision: int = 0
    splits: int = 0
    merges: int = 0
    overlaps: int = 0

    @property
    def recall(self) -> float:
        """0 on an image without words."""
        return max(0, self.chars_hit - self.gran_recall) / self.chars_gt if self.chars_gt else 0.0

    @property
    def precision(self) -> float:
        """0 on an image without detections."""
        return max(0, self.chars_hit - self.gran_precision) / self.chars_det if self.chars_det else 0.0

    @property
    def hmean(self) -> float:
        return harmonic_mean(self.recall, self.precision)

    @property
    def score(self) -> Score:
        return Score(self.recall, self.precision, self.hmean)

    def as_row(self) -> list[int]:
        """The counts in the order of the fields, for a tensor; `from_row` is the inverse."""
        return list(astuple(self))

    @staticmethod
    def from_row(row: Sequence[float]) -> Counts:
        """Raises ValueError for a row of another length."""
        if len(row) != len(Counts.__slots__):
            raise ValueError(f"a row of Counts holds {len(Counts.__slots__)} numbers, got {len(row)}")
        return Counts(*(int(value) for value in row))


def cleval(
    words: Sequence[Word] | GroundTruth, polygons: Sequence[Float64], variant: Variant = "competition"
) -> Counts:
    """The counts of one image.

    Args:
        words: of the image, or the result of `ground_truth`.
        polygons: detections (V, 2); the order matters to `competition` alone, which takes the first 500.
        variant: whose rules.

    Raises:
        ValueError: the ground truth was prepared for the other variant.
    """
    return cleval_prefixes(words, polygons, [len(polygons)], variant)[0]


def cleval_prefixes(
    words: Sequence[Word] | GroundTruth,
    polygons: Sequence[Float64],
    lengths: Sequence[int],
    variant: Variant = "competition",
) -> list[Counts]:
    """The counts of the first n of the polygons, for each n of `lengths`, as `cleval` gives them one by one.

    Areas and inclusions are found once; what matches what is settled for each n, equal ones once.

    Raises:
        ValueError: the ground truth was prepared for the other variant.
    """
    truth = words if isinstance(words, GroundTruth) else ground_truth(words, variant)
    if truth.variant != variant:
        raise ValueError(f"ground truth prepared for {truth.variant!r} cannot score {variant!r}; prepare it again")
    rules = VARIANTS[variant]
    most = rules.most_detections or len(polygons)
    kept = [index for index, polygon in enumerate(polygons[:most]) if len(polygon) >= rules.least_vertices]
    shapes = [vertices(polygons[index]) for index in kept]
    wanted = [bisect_left(kept, length) for length in lengths]
    false: dict[int, int] = {}  # characters of the detections that match nothing, as far as they were asked for
    counts = {0: Counts(chars_gt=truth.chars)}
    pairs = _Pairs(truth, pack(shapes, truncate=True)) if shapes else None
    for length in set(wanted) - {0}:
        assert pairs is not None
        (hit, found, gran_recall, gran_precision, splits, merges), alone = pairs.match(length)
        for index in alone:
            if index not in false:
                false[index] = rules.rule.false_characters(rules.rule.aspect_ratio(shapes[index]))
        chars_fp = sum(false[index] for index in alone)
        counts[length] = Counts(
            truth.chars, found + chars_fp, chars_fp, hit, gran_recall, gran_precision, splits, merges, found - hit
        )
    return [counts[length] for length in wanted]


def macro(counts: Iterable[Counts]) -> Score:
    """The plain mean over images of each image's recall, precision and hmean (the leaderboard's).

    Raises:
        ValueError: there are no images.
    """
    rows = list(counts)
    if not rows:
        raise ValueError("a score needs at least one image")
    return Score(
        sum(row.recall for row in rows) / len(rows),
        sum(row.precision for row in rows) / len(rows),
        sum(row.hmean for row in rows) / len(rows),
    )


def micro(counts: Iterable[Counts]) -> Score:
    """The score of the counts summed over images (the official command line's).

    Raises:
        ValueError: there are no images.
    """
    rows = [row.as_row() for row in counts]
    if not rows:
        raise ValueError("a score needs at least one image")
    return Counts.from_row([sum(column) for column in zip(*rows, strict=True)]).score


def harmonic_mean(a: float, b: float) -> float:
    """2ab / (a + b), 0 where both are."""
    return 2 * a * b / (a + b) if a + b else 0.0


class _Pairs:
    """What words and detections have to do with each other, and the matches among the first detections."""

    def __init__(self, truth: GroundTruth, found: Packed) -> None:
        from detector.kernels import cleval as kernels

        self.truth = truth
        common = common_areas(truth.box_G4, truth.pieces, truth.owner_N, found, truth.region)
        self.pairs = common.starts_M, common.partner_P
        self.precision_P = kernels.precisions(common.area_P, common.partner_P, np.abs(found.area_N))
        self.inside_S, self.offset_P, self.count_P = kernels.inclusion(
            *self.pairs,
            truth.centres_C2,
            truth.starts_M,
            truth.centre_box_G4,
            found.points_P2,
            found.starts_M,
            found.box_N4,
        )
        self.care_D = kernels.care_of_detections(
            *self.pairs, self.precision_P, self.count_P, truth.ignored_K, CONSTRAINT, len(found)
        )

    def match(self, detections: int) -> tuple[list[int], list[int]]:
        """The six sums of `kernels.cleval.tally`, and the indices of detections that count and match nothing."""
        from detector.kernels import cleval as kernels

        match_P = kernels.matches(
            *self.pairs,
            self.precision_P,
            self.count_P,
            self.truth.care_G,
            self.care_D,
            detections,
            CONSTRAINT,
            AREA_PRECISION,
        )
        sums, alone_D = kernels.tally(
            *self.pairs, match_P, self.inside_S, self.offset_P, self.count_P, self.care_D, detections
        )
        return sums.tolist(), np.flatnonzero(alone_D).tolist()
