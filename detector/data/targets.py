"""Training maps of DBNet (Liao et al. 2020, arXiv 1911.08947, section 3.4).

With D = area (1 - r^2) / perimeter of a word (eq. (8)): the probability map is 1 on the word shrunk by D; the threshold
map is 1 - distance / D around its outline, the maximum over words, rescaled to thresh_min..thresh_max; it is judged
inside a word and within D of it. Shapes: N words, V vertices, P of all words, M = N + 1; H, W canvas in px.
Coordinates: canvas frame, corner origin.

A vertex (x, y) of a shrunk word falls in pixel (floor x, floor y), and `cv2.fillPoly` paints the outline between those
pixels and all inside, as in the paper's code. So a word always leaves a positive pixel, however thin it is, and the
contour of the painted pixels, read at pixel centres, is as wide as the shrunk word was (on average over positions).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from detector.config import Targets
from detector.kernels.polygons import CONVEX, kind_of
from detector.kernels.targets import GENERAL, MASKED, PAINTED, paint_borders, shrink_convex, shrink_words
from detector.types import Float32, Float64

# Pixels per unit of clipper's integers: vertices are good to 1/1024 px.
CLIPPER_SCALE = 1024.0
# A shrunk vertex this little short of a pixel's border is on it, and a pixel's centre this little beyond an offset is
# within it: what round numbers give must not depend on rounding.
SNAP_PX = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Maps:
    """What one canvas is trained on: a byte a pixel but for the threshold, for fresh pages cost more than painting.

    Attributes:
        prob_HW: true on shrunk words.
        prob_mask_HW: false where the probability is not judged (don't-care words and words too thin).
        thresh_HW: the threshold map, thresh_min where no outline is near.
        thresh_mask_HW: true where the threshold is judged.
        masked: words that are masked because they are thinner than min_side_px, or shrink to nothing.
    """

    prob_HW: NDArray[np.bool_]
    prob_mask_HW: NDArray[np.bool_]
    thresh_HW: Float32
    thresh_mask_HW: NDArray[np.bool_]
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
        rule: ratio, range and thinnest word (of a quad, the area over the longer of its two mean opposite sides; of any
            other polygon, the shorter side of its smallest rectangle).

    Raises:
        ValueError: the flags are not as many as the polygons.
    """
    words = [np.asarray(polygon, dtype=np.float64) for polygon in polygons]
    if len(words) != len(ignore_N):
        raise ValueError(f"each polygon needs a flag, got {len(words)} polygons and {len(ignore_N)} flags")
    text_HW, around_HW = np.zeros(hw, dtype=np.uint8), np.zeros(hw, dtype=np.uint8)
    judged_HW, thresh_HW = np.ones(hw, dtype=np.uint8), np.full(hw, rule.thresh_min, dtype=np.float32)
    masked = 0
    if words:
        points_P2, starts_M = np.concatenate(words), np.cumsum([0, *map(len, words)])
        ignored_N = np.asarray(ignore_N, dtype=np.bool_)
        offset_N, painted_N, kernels = _shrink_all(words, points_P2, starts_M, ignored_N, rule)
        masked = int((~painted_N & ~ignored_N).sum())
        for n in np.flatnonzero(~painted_N):
            cv2.fillPoly(judged_HW, [to_pixels(words[n])], 0)
        for pixels in kernels:  # one by one: of outlines given together, OpenCV leaves out what two of them share
            cv2.fillPoly(text_HW, [pixels], 1)
        if not painted_N.all():
            np.maximum(judged_HW, text_HW, out=judged_HW)
        low, span = np.float32(rule.thresh_min), np.float32(rule.thresh_max - rule.thresh_min)
        paint_borders(points_P2, starts_M, np.where(painted_N, offset_N, 0.0), SNAP_PX, low, span, thresh_HW, around_HW)
    return Maps(text_HW.view(np.bool_), judged_HW.view(np.bool_), thresh_HW, around_HW.view(np.bool_), masked)


def _shrink_all(
    words: list[Float64],
    points_P2: Float64,
    starts_M: NDArray[np.int64],
    ignored_N: NDArray[np.bool_],
    rule: Targets,
) -> tuple[Float64, NDArray[np.bool_], list[NDArray[np.int32]]]:
    """Offsets (N), which words are painted (N), and the pixel outlines of what is left of those once shrunk."""
    room_Q2 = np.empty((2 * len(points_P2) + 2 * len(words), 2))
    offset_N, fate_N, inner_M = shrink_words(
        points_P2,
        starts_M,
        ignored_N,
        np.array([-1.0 if len(word) == 4 else _thinnest(word) for word in words]),
        1.0 - rule.shrink_ratio**2,
        rule.min_side_px,
        room_Q2,
    )
    pixels_Q2, ends = to_pixels(room_Q2[: inner_M[-1]]), inner_M.tolist()
    kernels = [pixels_Q2[a:b] for a, b in itertools.pairwise(ends) if b > a]
    for n in np.flatnonzero(fate_N == GENERAL):
        parts = shrink(words[n], offset_N[n])
        fate_N[n] = PAINTED if parts else MASKED
        kernels.extend(to_pixels(part) for part in parts)
    return offset_N, fate_N == PAINTED, kernels


def shrink(polygon_V2: Float64, offset: float) -> list[Float64]:
    """A polygon moved inwards by `offset` px: no part, one, or several where it falls apart.

    Convex outlines are cut exactly; clipper does the others, round at reflex corners.
    """
    polygon = np.ascontiguousarray(polygon_V2, dtype=np.float64)
    if offset <= 0.0:
        return []
    if kind_of(polygon, 0, len(polygon)) == CONVEX:
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


def _thinnest(polygon_V2: Float64) -> float:
    """The shorter side of the smallest rectangle around a polygon, px."""
    return float(min(cv2.minAreaRect(polygon_V2.astype(np.float32))[1]))
