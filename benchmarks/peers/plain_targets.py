"""DBNet's training maps as published code builds them: word by word, with shapely, clipper, OpenCV and numpy.

The steps are those of the paper's own `make_seg_detection_data` and `make_border_map`; the rounding is the product's,
as `detector.data.targets` states it, so that results can be compared pixel by pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pyclipper
import shapely
from numpy.typing import NDArray

from detector.config import Targets
from detector.data.targets import CLIPPER_SCALE, SNAP_PX, Maps
from detector.types import Float64

Bools = NDArray[np.bool_]


def plain_targets(polygons: Sequence[Float64], ignore: Sequence[bool], hw: tuple[int, int], rule: Targets) -> Maps:
    """The maps of one canvas."""
    prob, judged = np.zeros(hw, np.uint8), np.ones(hw, np.uint8)
    closeness, near = np.zeros(hw), np.zeros(hw, bool)
    kernels: list[Float64] = []
    masked = 0
    for polygon, skip in zip(polygons, ignore, strict=True):
        shape = shapely.Polygon(polygon)
        offset = shape.area * (1 - rule.shrink_ratio**2) / shape.length if shape.length else 0.0
        parts = [] if skip or thinnest(polygon, shape.area) < rule.min_side_px else shrink(polygon, offset)
        if not parts:
            masked += not skip
            cv2.fillPoly(judged, [pixels(polygon)], 0)
            continue
        kernels += parts
        draw_border(polygon, offset, closeness, near)
    for part in kernels:
        cv2.fillPoly(prob, [pixels(part)], 1)
    judged[prob > 0] = 1
    thresh = (rule.thresh_min + (rule.thresh_max - rule.thresh_min) * closeness).astype(np.float32)
    return Maps(prob.astype(bool), judged.astype(bool), thresh, near, masked)


def thinnest(polygon: Float64, size: float) -> float:
    """A quad's area over the longer of its mean opposite sides; of others the smallest rectangle's shorter side."""
    if len(polygon) != 4:
        return float(min(cv2.minAreaRect(polygon.astype(np.float32))[1]))
    sides = np.linalg.norm(np.roll(polygon, -1, axis=0) - polygon, axis=1)
    longest = max(sides[0] + sides[2], sides[1] + sides[3]) / 2
    return float(size / longest) if longest else 0.0


def shrink(polygon: Float64, offset: float) -> list[Float64]:
    """What is left of a polygon: convex ones mitred by shapely, others rounded by clipper."""
    if offset <= 0:
        return []
    if is_convex(polygon):
        inner: Any = shapely.Polygon(polygon).buffer(-offset, join_style="mitre", mitre_limit=1e6)
        if inner.is_empty or inner.geom_type != "Polygon":
            return []
        points = np.array(inner.exterior.coords)[:-1]
        # fillPoly's border lines differ by their direction: it is the word's own.
        same = shapely.is_ccw(shapely.LinearRing(points)) == shapely.is_ccw(shapely.LinearRing(polygon))
        return [points if same else points[::-1]]
    clipper = pyclipper.PyclipperOffset(2.0, 0.25 * CLIPPER_SCALE)
    try:
        parts = pyclipper.SimplifyPolygon(np.round(polygon * CLIPPER_SCALE).astype(np.int64).tolist())
        clipper.AddPaths(parts, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:
        return []
    return [np.array(part) / CLIPPER_SCALE for part in clipper.Execute(-offset * CLIPPER_SCALE)]


def is_convex(polygon: Float64) -> bool:
    """Convex outlines fill their hull."""
    shape = shapely.Polygon(polygon)
    return bool(shape.is_valid and shape.convex_hull.area - shape.area <= 1e-9 * shape.area)


def pixels(polygon: Float64) -> NDArray[np.int32]:
    """The pixels that vertices fall in."""
    return np.floor(polygon + SNAP_PX).astype(np.int32)


def draw_border(polygon: Float64, offset: float, closeness: Float64, near: Bools) -> None:
    """Raise `closeness` and `near` in the box around one word."""
    height, width = closeness.shape
    left, top = np.maximum(np.floor(polygon.min(axis=0) - offset - 1).astype(int), 0)
    right, bottom = np.ceil(polygon.max(axis=0) + offset + 1).astype(int)
    box = slice(top, max(top, min(height, bottom))), slice(left, max(left, min(width, right)))
    y, x = np.mgrid[box] + 0.5
    distance = distance_to(polygon, x, y)
    closeness[box] = np.maximum(closeness[box], np.maximum(1 - distance / offset, 0))
    near[box] |= (distance <= offset + SNAP_PX) | inside(polygon, x, y)


def distance_to(polygon: Float64, x: Float64, y: Float64) -> Float64:
    """Distance of each point to the outline."""
    nearest = np.full(x.shape, np.inf)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        d = b - a
        t = np.clip(((x - a[0]) * d[0] + (y - a[1]) * d[1]) / max(d @ d, 1e-300), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - a[0] - t * d[0], y - a[1] - t * d[1]))
    return nearest


def inside(polygon: Float64, x: Float64, y: Float64) -> Bools:
    """Even-odd rule at each point."""
    odd = np.zeros(x.shape, dtype=bool)
    for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if a[1] != b[1]:
            odd ^= ((a[1] <= y) != (b[1] <= y)) & (x >= a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]))
    return odd
