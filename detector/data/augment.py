"""Training-time distortions of one page: one matrix for pixels and vertices, then changes of light and sharpness.

The geometry is one 3 x 3 matrix, drawn here and applied once, to the pixels by one warp and to the vertices in float64:
no vertex is lost or reordered, and what the crop cuts is clipped afterwards. Light, blur and noise are albumentations'.
Shapes: N words, V vertices; H, W canvas in px. Coordinates: corner origin (see `detector.geometry`).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from detector.config import Augment
from detector.geometry import is_convex, resize, transform, translation, warp_perspective
from detector.kernels.placing import place
from detector.types import Float64, UInt8

# A word of which less is left by the crop is masked: a sliver of a letter is neither text nor background.
MIN_VISIBLE = 0.25
# Down to this scale s, linear interpolation damps what the canvas cannot show as much as the mean over areas does, and
# in a tenth of the time: at the canvas's highest frequency sinc(s/2)^2 <= sinc(1/2).
LINEAR_SUFFICES = 0.72
# Share of the crops that are placed on a word; the others fall anywhere on the page and may be empty.
ON_TEXT = 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Words on a canvas: clipped polygons, what is don't-care, and which word of the page each one is."""

    polygons: tuple[Float64, ...]
    ignore: tuple[bool, ...]
    indices: tuple[int, ...]


def draw_matrix(
    rng: np.random.Generator,
    rule: Augment,
    image_wh: tuple[int, int],
    longest: int,
    side: int,
    polygons: Sequence[Float64] = (),
) -> Float64:
    """A random matrix from the image frame to a square canvas of `side` px.

    The page's longest side becomes `longest` px times a zoom; it is mirrored, turned, sheared and seen in perspective,
    and a window is laid on it: on one of `polygons` in most draws, inside the page as far as the page is large enough.
    """
    width, height = image_wh
    zoom = float(np.exp(rng.uniform(np.log(rule.scale[0]), np.log(rule.scale[1]))))
    scale = zoom * longest / max(width, height)
    # The page's centre is the origin from here on; the window moves it last.
    matrix = np.diag([scale, scale, 1.0]) @ translation(-width / 2.0, -height / 2.0)
    if rng.random() < rule.hflip:
        matrix = np.diag([-1.0, 1.0, 1.0]) @ matrix
    if rng.random() < rule.quarter_turns:
        matrix = _rotation(90.0 * float(rng.integers(1, 4))) @ matrix
    matrix = _rotation(float(rng.uniform(-1.0, 1.0)) * rule.rotate_deg) @ matrix
    shear = np.tan(np.radians(rng.uniform(-1.0, 1.0, size=2) * rule.shear_deg))
    matrix = (
        np.array([[1.0, shear[0], 0.0], [shear[1] if rng.random() < 0.5 else 0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]) @ matrix
    )
    corners = np.array([[0.0, 0.0], [width, 0.0], [width, height], [0.0, height]])
    matrix = _perspective(rng, rule.perspective, transform(corners, matrix)) @ matrix
    left, top = _window(rng, transform(corners, matrix), polygons, matrix, side)
    return translation(-left, -top) @ matrix


def apply_matrix(image_HW3: UInt8, image_wh: tuple[int, int], matrix_33: Float64, canvas_wh: tuple[int, int]) -> UInt8:
    """The canvas of a picture under a matrix, (canvas h, canvas w, 3), with a constant border.

    Args:
        image_HW3: the picture, at its own size or decoded smaller.
        image_wh: its own size, which the matrix is for.
        matrix_33: image frame to canvas frame.
        canvas_wh: size of the canvas in px.
    """
    scale = scale_of(matrix_33, image_wh)
    width, height = image_wh
    if scale < LINEAR_SUFFICES:  # a linear warp that shrinks skips pixels: shrink by area first, as inference does
        image_HW3 = resize(image_HW3, (max(1, round(width * scale)), max(1, round(height * scale))))
    to_page = np.diag([width / image_HW3.shape[1], height / image_HW3.shape[0], 1.0])
    return warp_perspective(image_HW3, matrix_33 @ to_page, canvas_wh)


def scale_of(matrix_33: Float64, image_wh: tuple[int, int]) -> float:
    """How many canvas px one image px becomes, at the page's centre: the square root of the change in area."""
    x, y = image_wh[0] / 2.0, image_wh[1] / 2.0
    depth = matrix_33[2] @ (x, y, 1.0)
    # The Jacobian of a homography has the determinant det(M) / depth^3.
    return float(np.sqrt(abs(np.linalg.det(matrix_33) / depth**3)))


def place_words(
    polygons: Sequence[Float64],
    ignore_N: Sequence[bool],
    image_wh: tuple[int, int],
    matrix_33: Float64,
    canvas_wh: tuple[int, int],
) -> Placed:
    """Words under a matrix, clipped to the picture and to the canvas.

    A word wholly inside both keeps all its vertices, in their order. One of which less than `MIN_VISIBLE` is left is
    marked don't-care, one of which nothing is left goes.
    """
    if not polygons:
        return Placed((), (), ())
    starts_M = np.cumsum([0, *map(len, polygons)])
    points_P2 = np.concatenate(polygons, dtype=np.float64)
    shown_P2, ends_M, share_N = place(points_P2, starts_M, matrix_33, *map(float, image_wh), *map(float, canvas_wh))
    kept, ends = np.flatnonzero(share_N > 0.0).tolist(), ends_M.tolist()
    return Placed(
        tuple(shown_P2[ends[n] : ends[n + 1]] for n in kept),
        tuple(bool(ignore_N[n] or share_N[n] < MIN_VISIBLE) for n in kept),
        tuple(kept),
    )


def change_light(rng: np.random.Generator, rule: Augment, image_HW3: UInt8) -> UInt8:
    """Brightness and contrast, then perhaps blur, then perhaps noise or JPEG artefacts; every draw comes from `rng`."""
    steps: list[str] = ["light"] if rule.brightness > 0.0 else []
    if rng.random() < rule.blur:
        steps.append("gaussian" if rng.random() < 0.5 else "motion")
    if rng.random() < rule.noise:
        steps.append("noise" if rng.random() < 0.5 else "jpeg")
    for step in steps:
        change = _changes(rule.brightness)[step]
        # Each with a seed of its own: one seed for all of a Compose gives all its members the same draws.
        change.set_random_seed(int(rng.integers(2**31)))
        image_HW3 = change(image=image_HW3)["image"]
    return image_HW3


@functools.cache
def _changes(brightness: float) -> dict[str, Any]:
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # its import asks the network for a newer version otherwise
    import albumentations as A  # 0.8 s

    return {
        "light": A.RandomBrightnessContrast(brightness_limit=brightness, contrast_limit=brightness, p=1.0),
        "gaussian": A.GaussianBlur(blur_limit=0, sigma_limit=(0.3, 1.2), p=1.0),
        "motion": A.MotionBlur(blur_limit=(3, 5), allow_shifted=False, p=1.0),
        "noise": A.GaussNoise(std_range=(0.01, 0.05), p=1.0),
        "jpeg": A.ImageCompression(quality_range=(30, 80), p=1.0),
    }


def _rotation(degrees: float) -> Float64:
    """Turns by `degrees`, clockwise as seen; quarter turns are exact."""
    quarter = round(degrees / 90.0)
    if degrees == 90.0 * quarter:
        cosine, sine = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))[quarter % 4]
    else:
        cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])


def _perspective(rng: np.random.Generator, share: float, corners_42: Float64) -> Float64:
    """A homography that moves each corner by up to `share` of the page's sides, any way."""
    if share == 0.0:
        return np.eye(3)
    shifts = rng.uniform(-share, share, size=(4, 2)) * np.ptp(corners_42, axis=0)
    while not is_convex(corners_42 + shifts):  # from a share of .25 on the page could fold over: then less of it
        shifts /= 2.0
    moved = (corners_42 + shifts).astype(np.float32)
    matrix: Float64 = cv2.getPerspectiveTransform(corners_42.astype(np.float32), moved).astype(np.float64)
    return matrix


def _window(
    rng: np.random.Generator, corners_42: Float64, polygons: Sequence[Float64], matrix_33: Float64, side: int
) -> tuple[float, float]:
    """Left and top of the crop: over the page, and over all of one word where the draw says so and the word fits.

    The page's corners are given on the canvas, the words (N, each (V, 2)) on the page.

    Whole pixels: an undistorted crop is as sharp as the picture that inference sees.
    """
    word = None
    if polygons and rng.random() < ON_TEXT:
        word = transform(polygons[int(rng.integers(len(polygons)))], matrix_33)
    start = []
    for axis in (0, 1):
        low, high = _sorted(corners_42[:, axis].min(), corners_42[:, axis].max() - side)
        if word is not None:
            word_low, word_high = _sorted(word[:, axis].max() - side, word[:, axis].min())
            if max(low, word_low) <= min(high, word_high):
                low, high = max(low, word_low), min(high, word_high)
        start.append(float(np.rint(rng.uniform(low, high))))
    return start[0], start[1]


def _sorted(a: float, b: float) -> tuple[float, float]:
    return (a, b) if a <= b else (b, a)
