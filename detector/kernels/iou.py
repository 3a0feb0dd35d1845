"""The compiled loop of ICDAR's IoU matching.

Shapes: G words, D detections, P pairs as `kernels.pairs.meeting` gives them (M = G + 1).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import compiled
from detector.types import Float64


@compiled
def match(
    pair_starts_M: Any,
    partner_P: Any,
    area_P: Float64,
    area_G: Float64,
    area_D: Float64,
    care_G: Any,
    threshold: float,
    ignored_threshold: float,
) -> Any:
    """The detection of each word, -1 for none, (G), and how many detections count.

    Those with more than a part of their area on one don't-care word do not count. Words come in their order, each takes
    its first free detection whose IoU exceeds `threshold`.
    """
    words, detections = len(area_G), len(area_D)
    free_D = np.ones(detections, np.bool_)
    for g in range(words):
        if not care_G[g]:
            for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
                if area_P[p] > ignored_threshold * area_D[partner_P[p]]:
                    free_D[partner_P[p]] = False
    counting = free_D.sum()
    partner_G = np.full(words, -1, np.int64)
    for g in range(words):
        if not care_G[g]:
            continue
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            d = partner_P[p]
            union = area_G[g] + area_D[d] - area_P[p]
            if free_D[d] and union > 0.0 and area_P[p] / union > threshold:
                free_D[d] = False
                partner_G[g] = d
                break
    return partner_G, counting
