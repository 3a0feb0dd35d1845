"""Training maps of DBNet (Liao et al. 2020, arXiv 1911.08947, section 3.4).

With D = area (1 - r^2) / perimeter of a word (eq. (8)): the probability map is 1 on the word shrunk by D; the threshold
map is 1 - distance / D around its outline, the maximum over words, rescaled to thresh_min..thresh_max; it is judged
within D of a word. Shapes: N words, V vertices; H, W canvas in px. Coordinates: canvas frame, corner origin.

A vertex (x, y) of a shrunk word falls in pixel (floor x, floor y), and `cv2.fillPoly` paints the outline between those
pixels and all inside, as in the paper's code. So a word always leaves a positive pixel, however thin it is, and the
contour of the painted pixels, read at pixel centres, is as wide as the shrunk word was (on average over positions).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from detector.config import Targets
from detector.geometry import area, is_convex, perimeter
from detector.kernels.targets import paint_borders, shrink_convex
from detector.types import Float32, Float64

# Pixels per unit of clipper's integers: vertices are good to 1/1024 px.
CLIPPER_SCALE = 1024.0
# A shrunk vertex this little short of a pixel's border is on it: offsets of round numbers must not depend on rounding.
SNAP_PX = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What one canvas is trained on, all float32.

    Attributes:
        prob_HW: 1 on shrunk words, else 0.
        prob_mask_HW: 0 where the probability is not judged (don't-care words and words too thin), else 1.
        thresh_HW: the threshold map, thresh_min where no outline is near.
        thresh_mask_HW: 1 where the threshold is judged, else 0.
        masked: words that are masked because they are thinner than min_side_px, or shrink to nothing.
    """

    prob_HW: Float32
    prob_mask_HW: Float32
    thresh_HW: Float32
    thresh_mask_HW: Float32
    masked: int


def targets(
    polygons: Sequence[Float64], ignore_N: Sequence[bool] | NDArray[np.bool_], hw: tuple[int, int], rule: Targets
) -> Maps:
    """The maps of one canvas.

    Where a don't-care word covers a text word, the text's shrunk pixels are judged all the same: text wins.

    Args:
        polygons: N words, (V, 2); parts outside the canvas are not painted.
        ignore_N: don't-care flags.
        hw: height and width of the canvas in px.
        rule: ratio, range and thinnest word.
    """
    prob_HW, thresh_HW, thresh_mask_HW = (np.zeros(hw, dtype=np.float32) for _ in range(3))
    prob_mask_HW = np.ones(hw, dtype=np.float32)
    outlines: list[Float64] = []
    offsets: list[float] = []
    kernels: list[NDArray[np.int32]] = []
    masked = 0
    for polygon, ignore in zip(polygons, ignore_N, strict=True):
        size, length = area(polygon), perimeter(polygon)
        offset = size * (1.0 - rule.shrink_ratio**2) / length if length > 0.0 else 0.0
        shrunk = [] if ignore or _thinnest(polygon, size) < rule.min_side_px else shrink(polygon, offset)
        if shrunk:
            kernels.extend(to_pixels(part) for part in shrunk)
            outlines.append(np.ascontiguousarray(polygon, dtype=np.float64))
            offsets.append(offset)
        else:
            masked += not ignore
            cv2.fillPoly(prob_mask_HW, [to_pixels(polygon)], 0.0)
    for pixels in kernels:
        cv2.fillPoly(prob_HW, [pixels], 1.0)
        cv2.fillPoly(prob_mask_HW, [pixels], 1.0)
    if outlines:
        starts = np.cumsum([0, *map(len, outlines)], dtype=np.int64)
        paint_borders(np.concatenate(outlines), starts, np.array(offsets), thresh_HW, thresh_mask_HW)
    np.multiply(thresh_HW, np.float32(rule.thresh_max - rule.thresh_min), out=thresh_HW)
    np.add(thresh_HW, np.float32(rule.thresh_min), out=thresh_HW)
    return Maps(prob_HW, prob_mask_HW, thresh_HW, thresh_mask_HW, masked)


def shrink(polygon_V2: Float64, offset: float) -> list[Float64]:
    """A polygon moved inwards by `offset` px: no part, one, or several where it falls apart.

    Convex outlines are cut exactly; clipper does the others, round at reflex corners.
    """
    polygon = np.ascontiguousarray(polygon_V2, dtype=np.float64)
    if offset <= 0.0:
        return []
    if is_convex(polygon):
        room = np.empty((2 * len(polygon) + 2, 2))
        count = shrink_convex(polygon, offset, room)
        return [room[:count].copy()] if count >= 3 else []
    clipper = pyclipper.PyclipperOffset(2.0, 0.25 * CLIPPER_SCALE)
    try:
        # A self-crossing outline is taken apart first; clipper would offset its lobes in opposite directions.
        parts = pyclipper.SimplifyPolygon(np.round(polygon * CLIPPER_SCALE).astype(np.int64).tolist())
        clipper.AddPaths(parts, pyclipper.JT_ROUND, pyclipper.ET_CLOSEDPOLYGON)
    except pyclipper.ClipperException:  # nothing but slivers below clipper's grid
        return []
    return [np.array(part, dtype=np.float64) / CLIPPER_SCALE for part in clipper.Execute(-offset * CLIPPER_SCALE)]


def to_pixels(polygon_V2: Float64) -> NDArray[np.int32]:
    """The pixels (column, row) that the vertices fall in, as `cv2.fillPoly` wants them."""
    pixels: NDArray[np.int32] = np.floor(polygon_V2 + SNAP_PX).astype(np.int32)
    return pixels


def _thinnest(polygon_V2: Float64, size: float) -> float:
    """The shorter side in px: of a quad the shorter of the two mean opposite sides, else of the smallest rectangle."""
    if len(polygon_V2) == 4:
        sides = np.hypot(*(np.roll(polygon_V2, -1, axis=0) - polygon_V2).T)
        longest = max(sides[0] + sides[2], sides[1] + sides[3]) / 2.0
        return size / float(longest) if longest > 0.0 else 0.0
    return float(min(cv2.minAreaRect(polygon_V2.astype(np.float32))[1]))
