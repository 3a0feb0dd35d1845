"""The one bridge between pictures and canvases, and the plane geometry that data, metrics and postprocessing share.

Shapes: V vertices; H, W height and width in px. Coordinates are (x, y), float64, in px, with the origin at the top left
*corner* of the top left pixel: pixel (row i, column j) covers [j, j + 1] x [i, i + 1], its centre is (j + .5, i + .5).
OpenCV's warps and contours count from pixel *centres* instead; `to_centres` converts a matrix, and a contour vertex
(j, i) is the point (j + .5, i + .5) here. `cv2.resize` already works in corners: it is exactly diag(w'/w, h'/h).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import ArrayLike

from detector.types import Float32, Float64, UInt8

# Statistics of ImageNet's training images (RGB, in [0, 1]), as timm and torchvision use them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Border of a canvas: the mean colour, so that it is (nearly) 0 once normalised. Never a reflection: that paints text.
BORDER_RGB = (124, 116, 104)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """How an image lies on a canvas.

    Attributes:
        matrix_33: homogeneous matrix, image frame to canvas frame; regular.
        image_wh: size of the image in px, EXIF orientation applied.
        canvas_wh: size of the canvas in px, padding included.
    """

    matrix_33: Float64
    image_wh: tuple[int, int]
    canvas_wh: tuple[int, int]

    def to_canvas(self, points_V2: ArrayLike) -> Float64:
        """Points of the image on the canvas, not clipped."""
        return transform(points_V2, self.matrix_33)

    def to_image(self, points_V2: ArrayLike, clip: bool = True) -> Float64:
        """Points of the canvas on the image: the exact inverse; with `clip` moved into [0, w] x [0, h]."""
        points = transform(points_V2, np.linalg.inv(self.matrix_33).astype(np.float64))
        return np.clip(points, 0.0, np.asarray(self.image_wh, dtype=np.float64)) if clip else points


def fit_frame(image_wh: tuple[int, int], size: int, multiple: int = 32) -> Frame:
    """The frame of a whole page: longest side `size` px, top left, padded right and below to a multiple of `multiple`.

    Narrow receipts stay narrow: the canvas is not square. The matrix is diag(content / image), so that it is what
    `cv2.resize` does to the last digit, rounding of the content's size included.

    Raises:
        ValueError: a side, `size` or `multiple` is below 1.
    """
    width, height = image_wh
    if min(width, height, size, multiple) < 1:
        raise ValueError(f"sides, size and multiple must be >= 1, got {image_wh}, {size} and {multiple}")
    scale = size / max(width, height)
    content = max(1, round(width * scale)), max(1, round(height * scale))
    canvas = -(-content[0] // multiple) * multiple, -(-content[1] // multiple) * multiple
    return Frame(np.diag([content[0] / width, content[1] / height, 1.0]), (width, height), canvas)


def content_size(frame: Frame) -> tuple[int, int]:
    """(width, height) in px of the page on the canvas of a `fit_frame`, without the padding."""
    return round(frame.matrix_33[0, 0] * frame.image_wh[0]), round(frame.matrix_33[1, 1] * frame.image_wh[1])


def warp(image_HW3: UInt8, frame: Frame) -> UInt8:
    """The canvas of a frame, (canvas h, canvas w, 3), with a constant border.

    A frame of `fit_frame` is resized (by area when it shrinks, linearly otherwise); any other matrix goes through one
    perspective warp with linear interpolation.

    Raises:
        ValueError: the image is not of the frame's size.
    """
    height, width = image_HW3.shape[:2]
    if (width, height) != tuple(frame.image_wh):
        raise ValueError(f"the frame is for an image of {frame.image_wh}, got {(width, height)}")
    canvas_w, canvas_h = frame.canvas_wh
    content_w, content_h = content_size(frame)
    fits = 1 <= content_w <= canvas_w and 1 <= content_h <= canvas_h
    if not (fits and np.array_equal(frame.matrix_33, np.diag([content_w / width, content_h / height, 1.0]))):
        return warp_perspective(image_HW3, frame.matrix_33, frame.canvas_wh)
    canvas: UInt8 = np.empty((canvas_h, canvas_w, 3), dtype=np.uint8)
    canvas[:content_h, :content_w] = resize(image_HW3, (content_w, content_h))
    canvas[:content_h, content_w:] = BORDER_RGB
    canvas[content_h:] = BORDER_RGB
    return canvas


def resize(image_HW3: UInt8, wh: tuple[int, int]) -> UInt8:
    """The image at another size in px: by area when it shrinks (no aliasing), linearly otherwise."""
    height, width = image_HW3.shape[:2]
    if (width, height) == tuple(wh):
        return image_HW3
    shrinks = wh[0] * wh[1] < width * height
    resized: UInt8 = cv2.resize(image_HW3, wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


def warp_perspective(image_HW3: UInt8, matrix_33: Float64, canvas_wh: tuple[int, int]) -> UInt8:
    """The image under a 3 x 3 matrix in corner coordinates, linear, with a constant border."""
    # OpenCV's loop over four channels takes two thirds of the time of that over three, with the same bits.
    warped = cv2.warpPerspective(
        cv2.cvtColor(image_HW3, cv2.COLOR_RGB2RGBA),
        to_centres(matrix_33),
        canvas_wh,
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(*BORDER_RGB, 255),
    )
    canvas: UInt8 = cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB)
    return canvas


def to_centres(matrix_33: Float64) -> Float64:
    """A matrix in corner coordinates as OpenCV's warps want it, in coordinates of pixel centres."""
    return translation(-0.5, -0.5) @ matrix_33 @ translation(0.5, 0.5)


def translation(x: float, y: float) -> Float64:
    """The 3 x 3 matrix that moves points by (x, y) px."""
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def transform(points_V2: ArrayLike, matrix_33: Float64) -> Float64:
    """Points under a homogeneous 3 x 3 matrix, in their order; an empty array stays empty (0, 2)."""
    points = np.asarray(points_V2, dtype=np.float64).reshape(-1, 2)
    moved = points @ matrix_33[:2, :2].T + matrix_33[:2, 2]
    if np.array_equal(matrix_33[2], (0.0, 0.0, 1.0)):
        return moved
    scale = points @ matrix_33[2, :2] + matrix_33[2, 2]
    return np.asarray(moved / scale[:, None], dtype=np.float64)


def normalise(image_HW3: UInt8) -> Float32:
    """A picture as the network is fed with it: (3, H, W), float32, contiguous, (x / 255 - mean) / std per channel."""
    scale = (1.0 / (255.0 * np.asarray(IMAGENET_STD))).astype(np.float32)
    shift = (np.asarray(IMAGENET_MEAN) / np.asarray(IMAGENET_STD)).astype(np.float32)
    planes = np.empty((3, *image_HW3.shape[:2]), dtype=np.float32)
    # Each plane as it lies in memory first: numpy's loops over every third byte take twice as long.
    for channel, plane in enumerate(cv2.split(image_HW3)):
        planes[channel] = plane
        planes[channel] *= scale[channel]
        planes[channel] -= shift[channel]
    return planes


def signed_area(polygon_V2: Float64) -> float:
    """Shoelace area in px^2; positive where the vertices run clockwise as seen (y points down)."""
    # Relative to the first vertex: far from the origin the products would cancel.
    x, y = (polygon_V2 - polygon_V2[0]).T
    return float(0.5 * (np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])))


def area(polygon_V2: Float64) -> float:
    """Area in px^2, whatever the direction; of a self-crossing outline, the difference of its lobes."""
    return abs(signed_area(polygon_V2))


def perimeter(polygon_V2: Float64) -> float:
    """Length of the closed outline in px."""
    return float(np.hypot(*(np.roll(polygon_V2, -1, axis=0) - polygon_V2).T).sum())


def is_convex(polygon_V2: Float64) -> bool:
    """Whether the outline turns one way only, once round (collinear vertices are allowed, self-crossings are not)."""
    edges = np.roll(polygon_V2, -1, axis=0) - polygon_V2
    edges = edges[np.any(edges != 0.0, axis=1)]
    if len(edges) < 3:
        return False
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    if not (np.all(turns >= 0.0) or np.all(turns <= 0.0)):
        return False
    angles = np.arctan2(turns, np.sum(edges * following, axis=1))
    return bool(abs(angles.sum()) < 3.0 * np.pi)  # a pentagram also turns one way, but twice round


def order_quad(points_42: ArrayLike) -> Float64:
    """Four points as top left, top right, bottom right, bottom left.

    The two leftmost are the left side, each side is ordered from above: the rule of DBNet's own code
    (`get_mini_boxes`), under which a rectangle turned by up to 45 degrees keeps its reading order.
    """
    points = np.asarray(points_42, dtype=np.float64)
    if points.shape != (4, 2):
        raise ValueError(f"a quad has shape (4, 2), got {points.shape}")
    by_x = points[np.lexsort((points[:, 1], points[:, 0]))]
    left, right = by_x[:2], by_x[2:]
    left, right = left[np.argsort(left[:, 1], kind="stable")], right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([left[0], right[0], right[1], left[1]])


def clip_polygon(polygon_V2: Float64, wh: tuple[float, float]) -> Float64:
    """The part of a polygon inside [0, w] x [0, h] (Sutherland and Hodgman 1974); (0, 2) where nothing is inside.

    A polygon wholly inside comes back with its vertices as they are. Of a concave one that falls apart, the parts stay
    joined along the border: areas and fills are right, the joints have no width.
    """
    kept = polygon_V2
    for axis, limit, sign in ((0, 0.0, 1.0), (0, wh[0], -1.0), (1, 0.0, 1.0), (1, wh[1], -1.0)):
        inside = sign * (kept[:, axis] - limit) >= 0.0
        if inside.all():
            continue
        if not inside.any():
            return np.empty((0, 2))
        kept = _cut(kept, inside, axis, limit)
    return kept


def _cut(
    polygon_V2: Float64, inside_V: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], axis: int, limit: float
) -> Float64:
    """One side's cut: vertices inside, and the points where edges cross the line."""
    points: list[Float64] = []
    for index, here in enumerate(polygon_V2):
        before = polygon_V2[index - 1]
        if inside_V[index] != inside_V[index - 1]:
            share = (limit - before[axis]) / (here[axis] - before[axis])
            crossing = before + share * (here - before)
            crossing[axis] = limit
            points.append(crossing)
        if inside_V[index]:
            points.append(here)
    return np.array(points)
