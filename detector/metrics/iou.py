"""The ICDAR 2015 protocol for word detection: IoU > 0.5, greedy one-to-one, don't-care words left out.

Shapes: G words, D detections, V vertices. Areas are those of the vertices as they are, px^2 (nothing is truncated).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.metrics.cleval import Score, harmonic_mean
from detector.metrics.shapes import common_areas, pack
from detector.types import Float64, Word

# ICDAR 2015, task 4.1: both for the match and for the part of a detection that lies on a don't-care word.
IOU_THRESHOLD = 0.5
IGNORED_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class IouCounts:
    """What one image adds to the score.

    Attributes:
        gt: words that count.
        det: detections that count, which are those of which at most half lies on one don't-care word.
        matched: pairs among them.
    """

    gt: int = 0
    det: int = 0
    matched: int = 0

    @property
    def recall(self) -> float:
        """1 on an image without words that count, as the protocol has it; such an image adds nothing to `iou_score`."""
        return self.matched / self.gt if self.gt else 1.0

    @property
    def precision(self) -> float:
        """Without detections: 1 if there was nothing to find, else 0."""
        if self.det == 0:
            return 0.0 if self.gt else 1.0
        return self.matched / self.det

    @property
    def hmean(self) -> float:
        return harmonic_mean(self.recall, self.precision)

    def as_row(self) -> list[int]:
        """[gt, det, matched], for a tensor; `IouCounts(*row)` is the inverse."""
        return [self.gt, self.det, self.matched]


def iou(words: Sequence[Word], polygons: Sequence[Float64], threshold: float = IOU_THRESHOLD) -> IouCounts:
    """Matches one image's words with its detections, words first, both in their order; the first pair above wins.

    Polygons of fewer than three vertices match nothing, and count all the same.
    """
    partner_G, det = _partners(words, polygons, threshold)
    return IouCounts(sum(not word.ignore for word in words), det, int(np.count_nonzero(partner_G >= 0)))


def iou_pairs(
    words: Sequence[Word], polygons: Sequence[Float64], threshold: float = IOU_THRESHOLD
) -> list[tuple[int, int]]:
    """The matched pairs that `iou` counts, as indices of word and detection, by word."""
    partner_G, _ = _partners(words, polygons, threshold)
    return [(word, detection) for word, detection in enumerate(partner_G.tolist()) if detection >= 0]


def _partners(words: Sequence[Word], polygons: Sequence[Float64], threshold: float) -> tuple[NDArray[np.int64], int]:
    """The detection of each word, -1 for none, and how many detections count."""
    if not words or not polygons:
        return np.full(len(words), -1, np.int64), len(polygons)
    from detector.kernels.iou import match

    own = pack(_vertices([word.polygon_V2 for word in words]), truncate=False)
    found = pack(_vertices(polygons), truncate=False)
    common = common_areas(own.box_N4, own, np.arange(len(own)), found)
    partner_G, det = match(
        common.starts_M,
        common.partner_P,
        common.area_P,
        np.abs(own.area_N),
        np.abs(found.area_N),
        np.array([not word.ignore for word in words], dtype=np.bool_),
        threshold,
        IGNORED_THRESHOLD,
    )
    return partner_G, det


def iou_score(counts: Iterable[IouCounts]) -> Score:
    """The protocol's score of a set: counts summed over images; 0 where there is nothing to divide by."""
    rows = list(counts)
    gt, det, matched = (
        (sum(column) for column in zip(*(row.as_row() for row in rows), strict=True)) if rows else (0, 0, 0)
    )
    recall = matched / gt if gt else 0.0
    precision = matched / det if det else 0.0
    return Score(recall, precision, harmonic_mean(recall, precision))


def _vertices(polygons: Sequence[Float64]) -> Sequence[Float64]:
    """Three vertices at least: the last one repeated, which adds no area."""
    if min(map(len, polygons)) >= 3:
        return polygons
    filled = []
    for polygon in polygons:
        vertices = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        if not len(vertices):
            vertices = np.zeros((1, 2))
        filled.append(np.concatenate([vertices, np.repeat(vertices[-1:], max(0, 3 - len(vertices)), axis=0)]))
    return filled
