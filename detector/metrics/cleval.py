"""CLEval: character-level evaluation of text detection (Baek et al. 2020, arXiv 2006.06244), in two variants.

`official` gives every count of PyPI `cleval` 0.1.1 (`CLEvalMetric`) for quads; `competition`, the default, is the
scorer of the receipt competition. In both, a word is a row of pseudo-character centres; a detection has the centres
that lie in it and an area precision, intersection / own area; matches are one-to-one, one-to-many and many-to-one;
recall and precision are characters less a penalty of (pieces - 1). Where the variants differ stands in `VARIANTS` and
in `characters.py`.

Shapes: G words, D detections, C centres of all words, V vertices of one polygon. Coordinates in px of the image frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from detector.metrics.characters import COMPETITION, OFFICIAL, Rule
from detector.metrics.shapes import Packed, intersection_areas, pack, region
from detector.types import Float64, Word

if TYPE_CHECKING:
    from shapely.geometry.base import BaseGeometry

Variant = Literal["competition", "official"]

# Baek et al. 2020, section 3.1: a detection matches a word when at least this much of its area lies on it.
AREA_PRECISION = 0.3


@dataclass(frozen=True, slots=True)
class Rules:
    """How a variant reads its input.

    Attributes:
        rule: lengths and centres of one polygon.
        least_vertices: polygons with fewer are skipped.
        most_detections: detections after so many of the list are ignored.
        has_text: transcriptions and don't-care words are known to the variant.
    """

    rule: Rule
    least_vertices: int
    most_detections: int | None
    has_text: bool


VARIANTS: dict[Variant, Rules] = {
    "official": Rules(OFFICIAL, least_vertices=3, most_detections=None, has_text=True),
    "competition": Rules(COMPETITION, least_vertices=4, most_detections=500, has_text=False),
}


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


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The words of one image, prepared once for any number of scorings (`ground_truth`).

    Attributes:
        variant: whose rules prepared them.
        polygons: vertices truncated to integers, G of them.
        pieces, owner_N: disjoint parts of the words' regions and whose they are; one part a word, save for don't-care
            words, of which the words over them are taken away.
        length_G: characters of each word.
        care_G: False for don't-care words; ignored_K: their indices, in the order in which `cleval` meets them.
        centres_C2, starts_M, centre_box_G4: pseudo-character centres, where each word's begin, the box around them.
    """

    variant: Variant
    polygons: Packed
    pieces: Packed
    owner_N: NDArray[np.int64]
    length_G: NDArray[np.int64]
    care_G: NDArray[np.bool_]
    ignored_K: NDArray[np.int64]
    centres_C2: Float64
    starts_M: NDArray[np.int64]
    centre_box_G4: Float64
    _regions: dict[int, BaseGeometry] = field(default_factory=dict)

    @cached_property
    def chars(self) -> int:
        """Characters of the words that count."""
        return int(self.length_G[self.care_G].sum())

    def region(self, index: int) -> BaseGeometry:
        """A word's region as a shapely geometry, made when first asked for."""
        if index not in self._regions:
            self._regions[index] = region(self.polygons.polygon(index))
        return self._regions[index]


def ground_truth(words: Sequence[Word], variant: Variant = "competition") -> GroundTruth:
    """Prepares the words of one image; `cleval` does so itself when it is given words.

    `official`: a word's length is that of its transcription (an empty one has no characters, as in `cleval` 0.1.1),
    without one the pseudo-length; `ignore` marks don't-care words. A triangle gets the fourth vertex (x0, y2) that
    `cleval` gives it. Other polygons, which `CLEvalMetric` refuses and its command line cannot score, keep the official
    lengths and truncated areas; their ratio is that of the smallest rectangle, their centres are those below.
    `competition`: words are polygons alone, so those marked `ignore` count like any other.
    """
    rules = VARIANTS[variant]
    kept = [word for word in words if len(word.polygon_V2) >= rules.least_vertices]
    shapes = [_vertices(word.polygon_V2) for word in kept]
    ratios = [rules.rule.aspect_ratio(shape) for shape in shapes]
    lengths = [
        len(word.transcription)
        if rules.has_text and word.transcription is not None and not word.ignore
        else rules.rule.length(ratio)
        for word, ratio in zip(kept, ratios, strict=True)
    ]
    care_G = np.array([not (rules.has_text and word.ignore) for word in kept], dtype=np.bool_)
    centres = [rules.rule.centres(*item) for item in zip(shapes, ratios, lengths, strict=True)]
    starts_M = np.zeros(len(kept) + 1, np.int64)
    np.cumsum(lengths, out=starts_M[1:])
    polygons = pack(shapes, truncate=True)
    pieces, owner_N = polygons, np.arange(len(kept))
    regions: dict[int, BaseGeometry] = {}
    if not care_G.all():
        from detector.metrics.ignored import cut_words

        pieces, owner_N, regions = cut_words(polygons, care_G)
    return GroundTruth(
        variant,
        polygons,
        pieces,
        owner_N,
        np.array(lengths, np.int64),
        care_G,
        # cleval sums float32 areas in the order of a Python set, which decides the last bit
        np.array(list(set(np.flatnonzero(~care_G).tolist())), np.int64),
        np.concatenate(centres) if centres else np.zeros((0, 2)),
        starts_M,
        np.array([_box(centre_n2) for centre_n2 in centres]).reshape(-1, 4),
        regions,
    )


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
    truth = words if isinstance(words, GroundTruth) else ground_truth(words, variant)
    if truth.variant != variant:
        raise ValueError(f"ground truth prepared for {truth.variant!r} cannot score {variant!r}; prepare it again")
    rules = VARIANTS[variant]
    shapes = [
        _vertices(polygon) for polygon in polygons[: rules.most_detections] if len(polygon) >= rules.least_vertices
    ]
    if not shapes:
        return Counts(chars_gt=truth.chars)
    sums, alone = _match(truth, pack(shapes, truncate=True))
    false = sum(rules.rule.false_characters(rules.rule.aspect_ratio(shapes[index])) for index in alone)
    hit, found, gran_recall, gran_precision, splits, merges = sums
    return Counts(truth.chars, found + false, false, hit, gran_recall, gran_precision, splits, merges, found - hit)


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


def _match(truth: GroundTruth, found: Packed) -> tuple[list[int], list[int]]:
    """The six sums of `kernels.cleval.tally`, and the indices of detections that count and match nothing."""
    from detector.kernels import cleval as kernels

    area_GD = intersection_areas(truth.pieces, truth.owner_N, len(truth.polygons), found, truth.region)
    own_D = np.abs(found.area_N)
    # float32, because a precision of .3 is compared as float32 in cleval
    precision_GD = np.divide(area_GD, own_D, out=np.zeros_like(area_GD), where=own_D > 0.0).astype(np.float32)
    inside_CD, count_GD = kernels.inclusion(
        truth.centres_C2, truth.starts_M, truth.centre_box_G4, found.points_P2, found.starts_M, found.box_N4
    )
    constraint = np.float32(AREA_PRECISION)
    care_D = kernels.care_of_detections(precision_GD, count_GD, truth.ignored_K, constraint)
    match_GD = kernels.matches(precision_GD, count_GD, truth.care_G, care_D, constraint, AREA_PRECISION)
    sums, alone_D = kernels.tally(match_GD, inside_CD, count_GD, truth.starts_M, care_D)
    return sums.tolist(), np.flatnonzero(alone_D).tolist()


def _vertices(polygon_V2: Float64) -> Float64:
    vertices = np.asarray(polygon_V2, dtype=np.float64).reshape(-1, 2)
    if len(vertices) == 3:  # only `official` lets triangles through; cleval.box_types.POLY adds this vertex
        vertices = np.append(vertices, [[vertices[0, 0], vertices[2, 1]]], axis=0)
    return vertices


def _box(points_n2: Float64) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1; a box that meets nothing for no points."""
    if not len(points_n2):
        return (np.inf, np.inf, -np.inf, -np.inf)
    (x0, y0), (x1, y1) = points_n2.min(axis=0).tolist(), points_n2.max(axis=0).tolist()
    return (x0, y0, x1, y1)
