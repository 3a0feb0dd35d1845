"""The competition's scorer, word for word as it is defined, in loops; areas and inclusion by Polygon3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import Polygon
from scipy.spatial import ConvexHull, QhullError

from detector.metrics.cleval import Counts
from detector.types import Float64, Word

EPS = float(np.finfo(np.float32).eps)


def counts(words: Sequence[Word], polygons: Sequence[Float64]) -> Counts:
    """The counts of one image."""
    truth = [word.polygon_V2.tolist() for word in words if len(word.polygon_V2) >= 4]
    found = [polygon.tolist() for polygon in list(polygons)[:500] if len(polygon) >= 4]
    lengths = [plain_length(polygon) for polygon in truth]
    centres = [plain_centres(polygon, n) for polygon, n in zip(truth, lengths, strict=True)]
    gt = [Polygon.Polygon([(int(x), int(y)) for x, y in polygon]) for polygon in truth]
    det = [Polygon.Polygon([(int(x), int(y)) for x, y in polygon]) for polygon in found]
    g_range, d_range = range(len(gt)), range(len(det))
    precision = np.zeros((len(gt), len(det)), np.float32)
    for g in g_range:
        for d in d_range:
            if det[d].area() > 0:
                precision[g, d] = (gt[g] & det[d]).area() / det[d].area()
    inside = [[[det[d].isInside(*centre) for centre in centres[g]] for d in d_range] for g in g_range]
    count_GD = [[sum(inside[g][d]) for d in d_range] for g in g_range]
    good = [[bool(precision[g, d] >= np.float32(0.3)) and count_GD[g][d] > 0 for d in d_range] for g in g_range]
    pairs = set()
    for g in g_range:
        for d in d_range:
            if good[g][d] and sum(good[g]) == 1 and sum(good[k][d] for k in g_range) == 1:
                pairs.add((g, d))
    for g in g_range:
        pieces = [d for d in d_range if good[g][d]]
        pairs |= {(g, d) for d in pieces} if len(pieces) >= 2 else set()
    for d in d_range:
        covered = [g for g in g_range if count_GD[g][d] > 0]
        if len(covered) >= 2 and sum(float(precision[g, d]) for g in covered) >= 0.3:
            pairs |= {(g, d) for g in covered}
    hit = {(g, c) for g, d in pairs for c in range(lengths[g]) if inside[g][d][c]}
    covered_chars = sum(count_GD[g][d] for g, d in pairs)
    of_word = [sum(pair[0] == g for pair in pairs) for g in g_range]
    of_detection = [sum(pair[1] == d for pair in pairs) for d in d_range]
    false = sum(min(round(0.5 + 1 / (EPS + plain_ratio(found[d]))), 100) for d in d_range if not of_detection[d])
    return Counts(
        sum(lengths),
        covered_chars + false,
        false,
        len(hit),
        sum(max(k - 1, 0) for k in of_word),
        sum(max(k - 1, 0) for k in of_detection),
        sum(k > 1 for k in of_word),
        sum(k > 1 for k in of_detection),
        covered_chars - len(hit),
    )


def plain_ratio(polygon: list[list[float]]) -> float:
    """h / (w + eps) of the smallest rectangle over the hull's edges; the first minimum wins."""
    points = np.array(polygon)
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:
        return 0.0
    best = None
    for here, there in zip(hull, np.roll(hull, -1, axis=0), strict=True):
        x, y = (there - here) / np.sqrt(np.sum((there - here) ** 2))
        along, across = hull @ [x, y], hull @ [-y, x]
        w, h = np.ptp(along), np.ptp(across)
        if best is None or w * h < best[0] * (1 - 1e-9):  # a turned rectangle's areas are equal but for rounding
            best = (w * h, w, h)
    assert best is not None
    return min(100.0, float(best[2] / (best[1] + EPS)))


def plain_length(polygon: list[list[float]]) -> int:
    ratio = plain_ratio(polygon)
    return min(round(0.5 + max(ratio, 1 / (ratio + EPS))), 100)


def plain_centres(polygon: list[list[float]], n: int) -> list[tuple[float, float]]:
    half = len(polygon) // 2
    lines = []
    for line in (polygon[:half], polygon[half:][::-1]):
        points = []
        for section in range(half - 1):
            (x0, y0), (x1, y1) = line[section], line[section + 1]
            points.append((x0, y0))
            points += [(int(x0 + (x1 - x0) / n * k), int(y0 + (y1 - y0) / n * k)) for k in range(1, n)]
        lines.append([*points, tuple(line[-1])])
    top, bottom = lines
    step = (len(top) - 1) / n
    four = [(top[i], top[j], bottom[i], bottom[j]) for i, j in ((int(c * step), int((c + 1) * step)) for c in range(n))]
    return [(sum(point[0] for point in points) / 4, sum(point[1] for point in points) / 4) for points in four]
