"""The ICDAR 2015 protocol as its script has it: a double loop with an intersection and a union of every pair."""

from __future__ import annotations

from collections.abc import Sequence

import shapely

from detector.types import Float64, Word


def counts(words: Sequence[Word], polygons: Sequence[Float64], threshold: float = 0.5) -> tuple[int, int, int]:
    """The protocol's loops over shapely polygons: words that count, detections that count, matches."""
    truth = [shapely.Polygon(word.polygon_V2) for word in words]
    found = [shapely.Polygon(polygon) for polygon in polygons]
    ignored = {
        d
        for d, polygon in enumerate(found)
        for word, own in zip(words, truth, strict=True)
        if word.ignore and polygon.area and own.intersection(polygon).area / polygon.area > 0.5
    }
    used: set[int] = set()
    for word, own in zip(words, truth, strict=True):
        for d, polygon in enumerate(found):
            if word.ignore or d in ignored or d in used:
                continue
            common = own.intersection(polygon).area
            if common / (own.area + polygon.area - common) > threshold:
                used.add(d)
                break
    return sum(not word.ignore for word in words), len(found) - len(ignored), len(used)
