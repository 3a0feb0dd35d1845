"""docTR's matching of rotated boxes: a tree of boxes, areas by shapely, pairs by the Hungarian method.

Not the same rule as ICDAR's greedy one: it maximises the sum of IoUs and keeps pairs of .5 or more. Where no detection
overlaps two words by half, both match the same pairs.
"""

from __future__ import annotations

import numpy as np
from doctr.utils.metrics import LocalizationConfusion

from detector.types import Float64


def counts(truth_N42: Float64, found_M42: Float64) -> tuple[int, int, int]:
    """Words, detections, matches."""
    metric = LocalizationConfusion(iou_thresh=0.5, use_polygons=True)
    metric.update(np.asarray(truth_N42), np.asarray(found_M42))
    return metric.num_gts, metric.num_preds, metric.matches
