"""Probability maps to word polygons (Liao et al. 2020, arXiv 1911.08947, section 3.5).

Shapes: H, W map height and width in px; N words; V vertices. Coordinates are (x, y), float64, in the map's frame, with
the origin at the top left corner of the top left pixel.

OpenCV's contours run through pixel *centres*: of a block of w x h pixels they enclose (w - 1) x (h - 1), and of a line
one pixel high nothing. With the paper's constant unclip ratio, outlines are therefore first grown until they cover as
many pixels as the contour holds: by half a pixel where edges follow the grid, so that a drawn rectangle comes back as
drawn; by less where they run aslant, since some pixel's centre then lies near the true edge. Measured on drawn
rectangles of 10-80 x 2-14 px turned by up to 3 degrees, after the offset: mean IoU with the truth .958, against .917
without growing and .886 with half a pixel always. `unclip: inverse` is another matter: detector/inference/unclip.py.
A text's holes (the inside of a ring) belong to it; text inside a hole is found too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.geometry import area, perimeter
from detector.inference.unclip import LINE_PX, missing, offsets, surplus
from detector.kernels.postprocess import contour_fills, smallest_rectangles
from detector.types import Detections, Float32, Float64, UInt8

Contour = NDArray[np.int32]
CLIPPER_SCALE = 256  # clipper counts in integers: 1/256 px
ARC_TOLERANCE_PX = 0.25  # clipper's own default, in px instead of its units: about 3 vertices a corner


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The contours of one map at one `thresh`, before any rule about scores and sizes.

    Attributes:
        contours: N arrays (V, 2) of pixel (column, row), each from its topmost, leftmost pixel.
        scores_N: mean probability inside each, in [0, 1].
        pixels_N: pixels inside or on each, holes filled.
    """

    contours: tuple[Contour, ...]
    scores_N: Float64
    pixels_N: Float64


def words_from_map(prob_HW: Float32 | UInt8, rule: Postprocess) -> Detections:
    """Words of one page, best score first; of equal scores the topmost first, then the leftmost.

    Args:
        prob_HW: probabilities in [0, 1], float32 or uint8 (then 255 means 1).
        rule: thresholds and shape; `max_candidates` keeps the best-scoring contours.

    Returns:
        Words in the map's frame, not clipped; quads as top left, top right, bottom right, bottom left, polygons
        clockwise. No words on a page without text.

    Raises:
        ValueError: `prob_HW` is not a two-dimensional map of float32 or uint8, or holds NaN.
    """
    return words_from_candidates(find_candidates(prob_HW, rule.thresh, rule.min_side_px), rule)


def find_candidates(prob_HW: Float32 | UInt8, thresh: float, min_side_px: float = 0.0) -> Candidates:
    """Every contour of `prob_HW > thresh` with its score: found once, it serves all rules with this `thresh`.

    Contours that cannot reach `min_side_px`, judged by their upright bounding box, are left out early: the map of an
    untrained network has tens of thousands of specks.
    """
    if prob_HW.ndim != 2 or prob_HW.dtype not in (np.float32, np.uint8):
        raise ValueError(f"a map must be two-dimensional, float32 or uint8, got {prob_HW.ndim} and {prob_HW.dtype}")
    full = 255.0 if prob_HW.dtype == np.uint8 else 1.0
    if full == 1.0 and not np.isfinite(prob_HW.sum(dtype=np.float64)):
        raise ValueError("a map must hold finite numbers, got NaN or infinity: the network has diverged")
    # A whole number exceeds thresh x 255 where it exceeds that number's floor.
    mask = prob_HW > (np.uint8(int(thresh * full)) if full == 255.0 else np.float32(thresh))
    found, tree = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return Candidates((), np.empty(0), np.empty(0))
    outer = tree.reshape(-1, 4)[:, 3] < 0  # a hole has a parent
    contours = [c.reshape(-1, 2) for c, keep in zip(found, outer, strict=True) if keep]
    if min_side_px > 1.0:
        contours = [c for c, large in zip(contours, _bounding_areas(contours) >= min_side_px**2, strict=True) if large]
    if not contours:
        return Candidates((), np.empty(0), np.empty(0))
    fills_N2 = contour_fills(np.ascontiguousarray(prob_HW), np.concatenate(contours), _ends(contours))
    return Candidates(tuple(contours), fills_N2[:, 1] / full, fills_N2[:, 0])


def words_from_candidates(candidates: Candidates, rule: Postprocess) -> Detections:
    """The words of a rule whose `thresh` and `min_side_px` are those of `candidates` (or a larger `min_side_px`)."""
    scores = candidates.scores_N
    order = np.flatnonzero(scores >= rule.box_thresh)
    # A contour starts at its topmost pixel, of several the leftmost: no two share it.
    first = np.array([candidates.contours[i][0] for i in order], dtype=np.int64).reshape(-1, 2)
    order = order[np.lexsort((first[:, 0], first[:, 1], -scores[order]))]
    boxes = _rectangles(candidates, order)
    large = _covered(boxes, candidates.pixels_N[order]) >= rule.min_side_px**2
    order, boxes = order[large][: rule.max_candidates], boxes[large][: rule.max_candidates]
    quads = _offset_quads(boxes, candidates.pixels_N[order], rule)
    polygons = [np.ascontiguousarray(quad) for quad in quads]
    if rule.shape == "polygon":
        outlines = (_offset_outline(candidates.contours[i], candidates.pixels_N[i], rule) for i in order)
        polygons = [quad if outline is None else outline for outline, quad in zip(outlines, polygons, strict=True)]
    return Detections(tuple(polygons), scores[order])


def _ends(contours: Sequence[Contour]) -> NDArray[np.int64]:
    return np.cumsum([len(contour) for contour in contours], dtype=np.int64)


def _bounding_areas(contours: Sequence[Contour]) -> Float64:
    """Pixels in each contour's upright bounding box: no less than in its smallest rectangle."""
    points = np.concatenate(contours)
    starts = np.concatenate([[0], _ends(contours)[:-1]])
    sides = np.maximum.reduceat(points, starts) - np.minimum.reduceat(points, starts) + 1.0
    return np.asarray(sides[:, 0] * sides[:, 1], dtype=np.float64)


def _rectangles(candidates: Candidates, order_N: NDArray[np.int64]) -> Float64:
    """Smallest rectangles (N, 7) around the pixels' centres of the candidates in the given order."""
    chosen = [candidates.contours[i] for i in order_N]
    if not chosen:
        return np.empty((0, 7))
    boxes: Float64 = smallest_rectangles(np.concatenate(chosen), _ends(chosen))
    return boxes


def _covered(boxes_N7: Float64, pixels_N: Float64) -> Float64:
    """Areas in px^2 of rectangles grown until they cover as many pixels as their contours hold."""
    width, height = boxes_N7[:, 2], boxes_N7[:, 3]
    grow = 2.0 * missing(width * height, 2.0 * (width + height), pixels_N)
    return np.asarray((width + grow) * (height + grow), dtype=np.float64)


def _offset_quads(boxes_N7: Float64, pixels_N: Float64, rule: Postprocess) -> Float64:
    """Corners (N, 4, 2) of the rectangles moved out by the rule, from the top left, clockwise.

    The smallest rectangle around a rectangle offset by d with round corners is the rectangle with each side moved out
    by d: no clipper is needed.
    """
    x, y, width, height, cosine, sine, enclosed = boxes_N7.T
    if rule.unclip == "inverse":
        less = 2.0 * surplus(width * height, 2.0 * (width + height), enclosed)
        width, height = np.maximum(width - less, LINE_PX), np.maximum(height - less, LINE_PX)
    grow = 2.0 * offsets(width * height, 2.0 * (width + height), pixels_N, rule)
    along = np.stack([cosine, sine], axis=1) * ((width + grow) / 2.0)[:, None]
    across = np.stack([-sine, cosine], axis=1) * ((height + grow) / 2.0)[:, None]
    centre = np.stack([x, y], axis=1)
    corners = [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    return np.stack(corners, axis=1)


def _offset_outline(contour: Contour, pixels: float, rule: Postprocess) -> Float64 | None:
    """The simplified outline moved out by the rule; None where it has no inside and the rectangle must do.

    Joins are round as in the paper, but mitred to undo the targets' shrink, which keeps a quad's corners square: mean
    IoU of single words on perfect maps .910 and .941 at 640 and 1024 px, with round joins .897 and .924.
    """
    thin: Contour = cv2.approxPolyDP(contour, rule.epsilon * cv2.arcLength(contour, True), True).reshape(-1, 2)
    if len(thin) < 3:
        return None
    points = thin.astype(np.float64) + 0.5
    distance = float(offsets(np.array(area(points)), np.array(perimeter(points)), np.array(pixels), rule))
    join = pyclipper.JT_MITER if rule.unclip == "inverse" else pyclipper.JT_ROUND
    clipper = pyclipper.PyclipperOffset(2.0, ARC_TOLERANCE_PX * CLIPPER_SCALE)
    clipper.AddPath(np.rint(points * CLIPPER_SCALE).astype(np.int64).tolist(), join, pyclipper.ET_CLOSEDPOLYGON)
    pieces = [np.array(piece, dtype=np.float64) / CLIPPER_SCALE for piece in clipper.Execute(distance * CLIPPER_SCALE)]
    pieces = [piece for piece in pieces if len(piece) >= 4]
    return max(pieces, key=area) if pieces else None
