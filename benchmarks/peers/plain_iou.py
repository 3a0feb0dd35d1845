"""The ICDAR 2015 protocol as DB's evaluator has it: intersection and union of every pair by shapely, then greedily."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely

from detector.types import Float64, Word


def counts(words: Sequence[Word], polygons: Sequence[Float64]) -> tuple[int, int, int]:
    """Words that count, detections that count, matches."""
    return matches(words, polygons)[1]


def matches(
    words: Sequence[Word], polygons: Sequence[Float64], threshold: float = 0.5
) -> tuple[list[tuple[int, int]], tuple[int, int, int]]:
    """The matched pairs of a word and a detection, and the counts."""
    ignored = set()
    for d, polygon in enumerate(polygons):
        for word in words:
            own = polygon_area(polygon)
            if word.ignore and own > 0.0 and intersection(word.polygon_V2, polygon) / own > threshold:
                ignored.add(d)
                break
    iou_GD = np.zeros((len(words), len(polygons)))
    for g, word in enumerate(words):
        for d, polygon in enumerate(polygons):
            iou_GD[g, d] = intersection_over_union(word.polygon_V2, polygon)
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    for g, word in enumerate(words):
        for d in range(len(polygons)):
            if word.ignore or d in ignored or d in used:
                continue
            if iou_GD[g, d] > threshold:
                used.add(d)
                pairs.append((g, d))
                break
    return pairs, (sum(not word.ignore for word in words), len(polygons) - len(ignored), len(pairs))


def polygon_area(polygon_V2: Float64) -> float:
    return float(shapely.Polygon(polygon_V2).area)


def intersection(a_V2: Float64, b_V2: Float64) -> float:
    return float(shapely.Polygon(a_V2).intersection(shapely.Polygon(b_V2)).area)


def intersection_over_union(a_V2: Float64, b_V2: Float64) -> float:
    union = float(shapely.Polygon(a_V2).union(shapely.Polygon(b_V2)).area)
    return intersection(a_V2, b_V2) / union if union else 0.0
