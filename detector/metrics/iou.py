"""The ICDAR 2015 protocol for word detection: IoU > 0.5, greedy one-to-one, don't-care words left out.

Shapes: G words, D detections, V vertices. Areas are those of the vertices as they are, px^2 (nothing is truncated).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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
    cares = np.array([not word.ignore for word in words], dtype=np.bool_)
    if not words or not polygons:
        return IouCounts(gt=int(cares.sum()), det=len(polygons))
    own = pack([_vertices(word.polygon_V2) for word in words], truncate=False)
    found = pack([_vertices(polygon) for polygon in polygons], truncate=False)
    common = common_areas(own.box_N4, own, np.arange(len(own)), found)
    from detector.kernels.iou import match

    matched, det = match(
        common.starts_M,
        common.partner_P,
        common.area_P,
        np.abs(own.area_N),
        np.abs(found.area_N),
        cares,
        threshold,
        IGNORED_THRESHOLD,
    )
    return IouCounts(gt=int(cares.sum()), det=det, matched=matched)


def iou_score(counts: Iterable[IouCounts]) -> Score:
    """The protocol's score of a set: counts summed over images; 0 where there is nothing to divide by."""
    rows = list(counts)
    gt, det, matched = (
        (sum(column) for column in zip(*(row.as_row() for row in rows), strict=True)) if rows else (0, 0, 0)
    )
    recall = matched / gt if gt else 0.0
    precision = matched / det if det else 0.0
    return Score(recall, precision, harmonic_mean(recall, precision))


def _vertices(polygon_V2: Float64) -> Float64:
    """Three vertices at least: the last one repeated, which adds no area."""
    if len(polygon_V2) > 2 and isinstance(polygon_V2, np.ndarray) and polygon_V2.dtype == np.float64:
        return polygon_V2
    vertices = np.asarray(polygon_V2, dtype=np.float64).reshape(-1, 2)
    if len(vertices) == 0:
        return np.zeros((3, 2))
    return vertices if len(vertices) >= 3 else np.concatenate([vertices, np.repeat(vertices[-1:], 2, axis=0)])
