"""The plain post-processor: maps to quads or polygons word by word with numpy, OpenCV and pyclipper.

Section 3.5 of Liao et al. 2020 (arXiv 1911.08947) as the published code does it (findContours, fillPoly, smallest
rectangle, clipper), with our documented rules: a score is the mean inside the contour, not inside its rectangle;
coordinates are those of pixel corners and not rounded; an outline is grown until it covers as many pixels as the
contour holds, and then offset; best score first. `unclip: ratio` only. tests/inference holds it against RapidOCR's and
docTR's output.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
import pyclipper
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.types import Float32, Float64, UInt8

SCALE = 256  # clipper's integers per px

Word = tuple[float, Float64]
Rectangle = Callable[[NDArray[np.int32]], tuple[Float64, Float64, float, float]]


def smallest_rectangle(contour: NDArray[np.int32]) -> tuple[Float64, Float64, float, float]:
    """Centre, direction of the width (within 45 degrees of the x axis), width and height; a side on a hull's edge."""
    hull = cv2.convexHull(contour).reshape(-1, 2).astype(np.int64)
    leftmost = np.lexsort((hull[:, 1], hull[:, 0]))[0]
    hull = np.roll(hull, -leftmost, axis=0)
    best = math.inf
    for edge in np.roll(hull, -1, axis=0) - hull:
        dx, dy = (1, 0) if not edge.any() else (int(edge[0]), int(edge[1]))
        while not (dx > 0 and -dx < dy <= dx):
            dx, dy = -dy, dx
        along, across = hull @ (dx, dy), hull @ (-dy, dx)
        length = math.sqrt(dx * dx + dy * dy)
        width, height = np.ptp(along) / length, np.ptp(across) / length
        if width * height < best:
            best = width * height
            middle = np.array([along.min() + along.max(), across.min() + across.max()]) / (2 * (dx * dx + dy * dy))
            centre = np.array([middle[0] * dx - middle[1] * dy, middle[0] * dy + middle[1] * dx]) + 0.5
            found = centre, np.array([dx, dy]) / length, float(width), float(height)
    return found


def opencv_rectangle(contour: NDArray[np.int32]) -> tuple[Float64, Float64, float, float]:
    """The same by cv2.minAreaRect, in float32: quicker than numpy's search, equal up to rounding and ties."""
    centre, (width, height), degrees = cv2.minAreaRect(contour)
    while not -45 < degrees <= 45:  # the width's direction is to lie within 45 degrees of the x axis
        width, height, degrees = height, width, degrees - math.copysign(90, degrees)
    turn = math.radians(degrees)
    return np.array(centre) + 0.5, np.array([math.cos(turn), math.sin(turn)]), float(width), float(height)


def words(prob_HW: Float32 | UInt8, rule: Postprocess, rectangle: Rectangle = smallest_rectangle) -> list[Word]:
    """(score, vertices) of each word, best score first, then the topmost, then the leftmost."""
    unit = 255.0 if prob_HW.dtype == np.uint8 else 1.0  # sums of whole numbers are exact: equal scores stay equal
    limit = rule.thresh * 255 if prob_HW.dtype == np.uint8 else np.float32(rule.thresh)
    bitmap = (prob_HW > limit).astype(np.uint8)
    contours, tree = cv2.findContours(bitmap, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    found = []
    for contour, links in zip(contours, tree[0] if contours else (), strict=True):
        if links[3] >= 0:  # a hole
            continue
        mean, pixels = _mean(prob_HW, contour)
        score = mean / unit
        if score < rule.box_thresh:
            continue
        centre, axis, width, height = rectangle(contour)
        grow = _missing(width * height, 2 * (width + height), pixels)
        # As many pixels are covered at least: only rounding could say otherwise.
        if max((width + 2 * grow) * (height + 2 * grow), pixels) < rule.min_side_px**2:
            continue
        distance = _distance(width * height, 2 * (width + height), pixels, rule)
        word = _corners(centre, axis, width + 2 * distance, height + 2 * distance)
        if rule.shape == "polygon":
            outline = _outline(contour, pixels, rule)
            word = word if outline is None else outline
        left, top = contour[0, 0]
        found.append((-score, top, left, word))
    found.sort(key=lambda item: item[:3])
    return [(-score, word) for score, _, _, word in found[: rule.max_candidates]]


def _mean(prob_HW: Float32 | UInt8, contour: NDArray[np.int32]) -> tuple[float, int]:
    """Mean inside the contour, in the map's units, and the pixels there."""
    x, y, width, height = cv2.boundingRect(contour)
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [contour - np.array([x, y], dtype=np.int32)], 1)
    inside = prob_HW[y : y + height, x : x + width][mask > 0]
    return float(inside.mean(dtype=np.float64)), len(inside)


def _corners(centre: Float64, axis: Float64, width: float, height: float) -> Float64:
    along, across = axis * width / 2, np.array([-axis[1], axis[0]]) * height / 2
    return np.array(
        [centre - along - across, centre + along - across, centre + along + across, centre - along + across]
    )


def _outline(contour: NDArray[np.int32], pixels: int, rule: Postprocess) -> Float64 | None:
    """The largest piece that clipper makes of the simplified contour; None where that has no inside."""
    thin = cv2.approxPolyDP(contour, rule.epsilon * cv2.arcLength(contour, True), True).reshape(-1, 2)
    if len(thin) < 3:
        return None
    points = thin + 0.5
    edges = np.roll(points, -1, axis=0) - points
    size = cv2.contourArea(thin)
    distance = _distance(size, float(np.hypot(*edges.T).sum()), pixels, rule)
    pieces = [piece for piece in offset(points, distance) if len(piece) >= 4]
    if not pieces:
        return None
    largest = np.array(max(pieces, key=pyclipper.Area))
    return np.roll(largest, -np.lexsort(largest.T)[0], axis=0) / SCALE  # from the topmost, leftmost vertex on


def offset(points_V2: Float64, distance: float, join: int = pyclipper.JT_ROUND) -> list[list[list[int]]]:
    """What clipper makes of an outline moved out by `distance` px, in its integers."""
    clipper = pyclipper.PyclipperOffset(2.0, 0.25 * SCALE)
    clipper.AddPath(np.rint(points_V2 * SCALE).astype(np.int64).tolist(), join, pyclipper.ET_CLOSEDPOLYGON)
    return clipper.Execute(distance * SCALE)  # type: ignore[no-any-return]


def _distance(size: float, around: float, pixels: int, rule: Postprocess) -> float:
    grow = _missing(size, around, pixels)
    return grow + (size + around * grow + 4 * grow**2) * rule.unclip_ratio / (around + 8 * grow)


def _missing(size: float, around: float, pixels: int) -> float:
    """How far to grow to an area of `pixels`: size + around e + 4 e^2 = pixels, e at most half a pixel."""
    return min((math.sqrt(around**2 + 16 * max(pixels - size, 0.0)) - around) / 8, 0.5)
