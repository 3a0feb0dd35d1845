"""How far an outline is moved outwards to make a word of it (Liao et al. 2020, arXiv 1911.08947, section 3.5).

Shapes: N outlines. Areas in px^2, lengths in px; an outline runs through the centres of a contour's pixels, as OpenCV
gives it. Two ways:

`ratio`, the paper's: the outline is first grown until it covers as many pixels as the contour holds, then moved out by
area x unclip_ratio / perimeter.

`inverse` undoes the shrink of the training targets: there a word of area A and perimeter L was moved in by
D = A (1 - r^2) / L. Moving what is left, of area a and perimeter l, out by D gives back A = a + l D + 4 D^2 and
L = l + 8 D, where 4 D^2 are the corners of a quad (mitred, as the targets' shrink). Hence

    4 (1 + r^2) D^2 + r^2 l D - (1 - r^2) a = 0,

whose positive root is taken. The outline is not grown first: targets paint a shrunk word so that its contour at pixel
centres is as wide as the word, on average over positions (detector/data/targets.py). Measured on perfect maps of
sroie_mini val, mean IoU of single words at 640 and 1024 px: .910 and .941; grown by half of what is missing .873 and
.918, wholly .786 and .857; the paper's ratio of 1.5 gives .816 and .810. A network's soft borders may ask for another
`shrink_ratio` than the targets' own: a larger one makes words smaller.
"""

from __future__ import annotations

import numpy as np

from detector.config import Postprocess
from detector.types import Float64

# What a shrunk word's height was, on average, where its contour is a line one pixel high: a height s in [0, 1) leaves
# one row with probability 1 - s, so the mean is int s (1 - s) ds / int (1 - s) ds.
LINE_PX = 1.0 / 3.0


def offsets(area_N: Float64, around_N: Float64, pixels_N: Float64, rule: Postprocess) -> Float64:
    """By how much, in px, outlines of these areas and perimeters are moved out; `pixels_N` as in `missing`."""
    if rule.unclip == "inverse":
        return inverse(area_N, around_N, rule.shrink_ratio)
    grow_N = missing(area_N, around_N, pixels_N)
    total_N: Float64 = grow_N + (
        (area_N + around_N * grow_N + 4.0 * grow_N**2) * rule.unclip_ratio / (around_N + 8.0 * grow_N)
    )
    return total_N


def missing(inner_N: Float64, around_N: Float64, pixels_N: Float64) -> Float64:
    """By how much, in px, outlines of area `inner` and perimeter `around` are to grow so as to cover `pixels` px^2.

    The positive root e of inner + around e + 4 e^2 = pixels (corners as if they were square), within 0 and .5.
    """
    lacking_N = np.maximum(pixels_N - inner_N, 0.0)
    grown_N: Float64 = np.minimum((np.sqrt(around_N**2 + 16.0 * lacking_N) - around_N) / 8.0, 0.5)
    return grown_N


def surplus(area_N: Float64, around_N: Float64, enclosed_N: Float64) -> Float64:
    """By how much, in px, rectangles around contours are to shrink so as to enclose what the contours do.

    The smallest rectangle touches a turned word's outermost pixels, up to half a pixel outside the word, and `inverse`
    would make more of it: on drawn words turned by up to .5 radian mean IoU is .959 with this, .875 without. The
    smaller root e of area - around e + 4 e^2 = enclosed, at most .5: a bent word's rectangle stays around it.
    """
    left_N = np.maximum(around_N**2 - 16.0 * np.maximum(area_N - enclosed_N, 0.0), 0.0)
    less_N: Float64 = np.minimum((around_N - np.sqrt(left_N)) / 8.0, 0.5)
    return less_N


def inverse(area_N: Float64, around_N: Float64, ratio: float) -> Float64:
    """The offset D that shrank a quad to these areas and perimeters; 0 where nothing has an area."""
    square, linear_N, constant_N = 4.0 * (1.0 + ratio**2), ratio**2 * around_N, (1.0 - ratio**2) * area_N
    # 2 c / (b + sqrt(b^2 + 4 a c)) loses no digits where the area is small.
    below_N = linear_N + np.sqrt(linear_N**2 + 4.0 * square * constant_N)
    root_N: Float64 = 2.0 * constant_N / np.maximum(below_N, np.finfo(np.float64).tiny)
    return root_N
