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

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.geometry import area
from detector.inference.unclip import LINE_PX, missing, offsets, surplus
from detector.kernels.outlines import MITRE, ROUND, offset_outlines
from detector.kernels.postprocess import binarise, bounding_areas, contour_fills, smallest_rectangles
from detector.kernels.simplify import simplify
from detector.types import Detections, Float32, Float64, UInt8

Contour = NDArray[np.int32]
CLOSED = pyclipper.ET_CLOSEDPOLYGON
CLIPPER_SCALE = 256  # clipper counts in integers: 1/256 px
ARC_TOLERANCE_PX = 0.25  # clipper's own default, in px instead of its units: about 3 vertices a corner


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """The contours of one map at one `thresh`, before any rule about scores and sizes.

    Attributes:
        points_P2: pixels (column, row) of all contours one after the other, each from its topmost, leftmost pixel.
        ends_N: where each contour's points end.
        scores_N: mean probability inside each, in [0, 1].
        pixels_N: pixels inside or on each, holes filled.
    """

    points_P2: NDArray[np.int32]
    ends_N: NDArray[np.int64]
    scores_N: Float64
    pixels_N: Float64

    @property
    def starts_N(self) -> NDArray[np.int64]:
        """Where each contour's points begin."""
        return np.concatenate([np.zeros(1, dtype=np.int64), self.ends_N[:-1]]) if len(self.ends_N) else self.ends_N

    @property
    def contours(self) -> tuple[Contour, ...]:
        """N arrays (V, 2)."""
        return tuple(self.points_P2[start:end] for start, end in zip(self.starts_N, self.ends_N, strict=True))


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
    # A whole number exceeds thresh x 255 where it exceeds that number's floor.
    whole = prob_HW.dtype == np.uint8
    limit = np.uint8(int(thresh * 255.0)) if whole else np.float32(thresh)
    values, mask = np.ascontiguousarray(prob_HW), np.empty(prob_HW.shape, dtype=np.uint8)
    if not binarise(values, limit, mask):
        raise ValueError("a map must hold finite numbers, got NaN or infinity: the network has diverged")
    found, tree = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not found:
        return Candidates(np.empty((0, 2), np.int32), np.empty(0, np.int64), np.empty(0), np.empty(0))
    points, lengths = np.concatenate(found).reshape(-1, 2), np.fromiter(map(len, found), np.int64, len(found))
    # A hole has a parent.
    kept = (tree.reshape(-1, 4)[:, 3] < 0) & (bounding_areas(points, np.cumsum(lengths)) >= min_side_px**2)
    if not kept.all():
        points, lengths = points[np.repeat(kept, lengths)], lengths[kept]
    ends = np.cumsum(lengths)
    fills_N2 = contour_fills(values, points, ends)
    return Candidates(points, ends, fills_N2[:, 1] / (255.0 if whole else 1.0), fills_N2[:, 0])


def words_from_candidates(candidates: Candidates, rule: Postprocess) -> Detections:
    """The words of a rule whose `thresh` and `min_side_px` are those of `candidates` (or a larger `min_side_px`)."""
    scores = candidates.scores_N
    order = np.flatnonzero(scores >= rule.box_thresh)
    # A contour starts at its topmost pixel, of several the leftmost: no two share it.
    first = candidates.points_P2[candidates.starts_N[order]]
    order = order[np.lexsort((first[:, 0], first[:, 1], -scores[order]))]
    order = order[_large_enough(candidates, order, rule.min_side_px**2)][: rule.max_candidates]
    if rule.shape == "quad":
        return Detections(tuple(_quads(candidates, order, rule)), scores[order])
    outlines = _offset_outlines(candidates, order, rule)
    flat = [n for n, outline in enumerate(outlines) if outline is None]
    quads = iter(_quads(candidates, order[flat], rule) if flat else ())
    return Detections(tuple(next(quads) if outline is None else outline for outline in outlines), scores[order])


def _large_enough(candidates: Candidates, order_N: NDArray[np.int64], least: float) -> NDArray[np.bool_]:
    """Whether a contour's smallest rectangle, grown to cover as many pixels as the contour holds, has `least` px^2.

    The pixels' centres are points of the grid within the rectangle of w x h, hence at most w h + w + h + 1 (Pick 1899):
    what half a pixel on each side makes of it. So a contour of `least` pixels passes, without its rectangle.
    """
    pixels_N = candidates.pixels_N[order_N]
    large_N = np.asarray(pixels_N >= least)
    if not large_N.all():
        boxes = smallest_rectangles(candidates.points_P2, candidates.ends_N, order_N[~large_N])
        width, height = boxes[:, 2], boxes[:, 3]
        grow = 2.0 * missing(width * height, 2.0 * (width + height), pixels_N[~large_N])
        large_N[~large_N] = (width + grow) * (height + grow) >= least
    return large_N


def _quads(candidates: Candidates, order_N: NDArray[np.int64], rule: Postprocess) -> Float64:
    """Corners (N, 4, 2) of the contours' smallest rectangles, moved out by the rule."""
    boxes = smallest_rectangles(candidates.points_P2, candidates.ends_N, order_N)
    return _offset_quads(boxes, candidates.pixels_N[order_N], rule)


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


def _offset_outlines(candidates: Candidates, order_N: NDArray[np.int64], rule: Postprocess) -> list[Float64 | None]:
    """The simplified outlines moved out by the rule; None where one has no inside and the rectangle must do.

    Joins are round as in the paper, but mitred to undo the targets' shrink, which keeps a quad's corners square: mean
    IoU of single words on perfect maps .910 and .941 at 640 and 1024 px, with round joins .897 and .924.
    """
    points, ends, sizes_N2 = simplify(candidates.points_P2, candidates.ends_N, order_N, rule.epsilon)
    distance_N = offsets(sizes_N2[:, 0], sizes_N2[:, 1], candidates.pixels_N[order_N], rule)
    join = MITRE if rule.unclip == "inverse" else ROUND
    vertices, until = offset_outlines(points, ends, distance_N, CLIPPER_SCALE, ARC_TOLERANCE_PX * CLIPPER_SCALE, join)
    vertices_P2 = vertices / CLIPPER_SCALE
    starts, firsts = [0, *ends.tolist()], [0, *until.tolist()]
    outlines: list[Float64 | None] = [vertices_P2[first:last] for first, last in pairwise(firsts)]
    for n in np.flatnonzero(np.diff(until, prepend=0) == 0).tolist():
        contour = points[starts[n] : starts[n + 1]]
        outlines[n] = _clipped(contour, float(distance_N[n]), join) if len(contour) >= 3 else None
    return outlines


def _clipped(contour: Contour, distance: float, join: int) -> Float64 | None:
    """The largest piece of an outline that clipper moves out, from its topmost, leftmost vertex on."""
    clipper = pyclipper.PyclipperOffset(2.0, ARC_TOLERANCE_PX * CLIPPER_SCALE)
    path = contour.astype(np.int64) * CLIPPER_SCALE + CLIPPER_SCALE // 2
    clipper.AddPath(path.tolist(), pyclipper.JT_MITER if join == MITRE else pyclipper.JT_ROUND, CLOSED)
    pieces = [np.array(piece, dtype=np.float64) for piece in clipper.Execute(distance * CLIPPER_SCALE)]
    pieces = [piece for piece in pieces if len(piece) >= 4]
    if not pieces:
        return None
    largest = max(pieces, key=area) if len(pieces) > 1 else pieces[0]
    first = np.lexsort(largest.T)[0]
    return np.concatenate([largest[first:], largest[:first]]) / CLIPPER_SCALE
