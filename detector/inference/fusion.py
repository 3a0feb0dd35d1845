"""Probability maps of one page, made one in a common frame: views of one member by their mean, members by a `Fusion`.

Shapes: H, W height and width of a map in px. A map covers the page and nothing of the canvas's padding; it is kept as
uint8 (255 means 1), which is all that maps on disk and in ensembles carry. Every view is rounded to that before it is
averaged, so that maps that were cached view by view give what a predictor computes at once, to the bit.

With weights w that sum to 1 and probabilities p of the members, a pixel becomes

    mean       sum w p                                 the linear pool: one sure member is heard by its weight
    geometric  prod p^w                                one member that sees nothing brings it down
    logit      1 / (1 + exp(-sum w ln(p / (1 - p))))   the logarithmic pool (Genest and Zidek 1986, Stat. Sci. 1)

A byte of 0 stands for all of [0, 1/510): its logarithm is taken at the middle, 1/1020, that of 255 at 1 - 1/1020 where
1 - p is asked for. Members of one mind come out as they went in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import cv2
import numpy as np

from detector.geometry import Frame
from detector.types import Float32, UInt8

Fusion = Literal["mean", "geometric", "logit"]
FUSIONS: Final[tuple[Fusion, ...]] = get_args(Fusion)
LEAST: Final = 1.0 / 1020.0


@dataclass(frozen=True, slots=True, eq=False)
class PageMap:
    """The probability map of one page.

    Attributes:
        prob_HW: probabilities, 255 means 1.
        frame: image to map; `canvas_wh` is the map's size.
    """

    prob_HW: UInt8
    frame: Frame


def fuse(maps: Sequence[PageMap], weights: Sequence[float] | None = None, fusion: Fusion = "mean") -> PageMap:
    """One map of one page's maps, in the frame of the largest (of equals the first).

    Maps are fused in float32, never polygons: those of different models do not correspond. A map of weight 0 counts as
    not there; what is left alone is returned as it is.

    Args:
        weights: one a map, equal unless given; only their ratios matter.

    Raises:
        ValueError: no maps, maps of different images, weights that are negative or sum to 0, or an unknown fusion.
    """
    shares = np.asarray(weights if weights is not None else [1.0] * len(maps), dtype=np.float64)
    if not maps or len(shares) != len(maps) or (shares < 0).any() or not shares.sum() > 0:
        raise ValueError(
            f"`weights >= 0` with a positive sum must hold, one a map, got {list(shares)}, {len(maps)} maps"
        )
    if fusion not in FUSIONS:
        raise ValueError(f"`fusion` must be one of {', '.join(FUSIONS)}, got {fusion!r}")
    if len({m.frame.image_wh for m in maps}) > 1:
        raise ValueError(f"maps must be of one image, got images of {[m.frame.image_wh for m in maps]}")
    kept = [(member, share) for member, share in zip(maps, shares / shares.sum(), strict=True) if share > 0]
    if len(kept) == 1:
        return kept[0][0]
    frame = max((member for member, _ in kept), key=lambda member: member.prob_HW.size).frame
    shares_M = np.array([share for _, share in kept], dtype=np.float32)
    maps_HW = [member.prob_HW for member, _ in kept]
    alike = all(prob_HW.shape == frame.canvas_wh[::-1] for prob_HW in maps_HW)
    if alike and fusion != "mean":
        fused = _fused_by_table(maps_HW, shares_M, fusion)
    else:
        fused = _fused(maps_HW, shares_M, fusion, frame.canvas_wh)
    return PageMap(fused, frame)


def resized(prob_HW: Float32, wh: tuple[int, int]) -> Float32:
    """The map at another size: linear when it grows, by area when it shrinks; in corner coordinates like the frames."""
    if prob_HW.shape == wh[::-1]:
        return prob_HW
    shrinks = wh[0] * wh[1] < prob_HW.size
    found: Float32 = cv2.resize(prob_HW, wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return found


def to_bytes(prob_HW: Float32) -> UInt8:
    """Probabilities rounded to 1/255. A NaN becomes 0 words, not noise: a diverged network finds nothing."""
    rounded: UInt8 = np.rint(np.nan_to_num(prob_HW, nan=0.0) * 255.0).astype(np.uint8)
    return rounded


def _fused(maps: Sequence[UInt8], shares_M: Float32, fusion: Fusion, wh: tuple[int, int]) -> UInt8:
    """Maps of any sizes, brought to one."""
    total: Float32 = np.zeros(wh[::-1], dtype=np.float32)
    for prob_HW, share in zip(maps, shares_M, strict=True):
        total += share * _added(resized(prob_HW.astype(np.float32), wh), fusion)
    return _pooled(total, fusion)


def _fused_by_table(maps: Sequence[UInt8], shares_M: Float32, fusion: Fusion) -> UInt8:
    """Maps of one size, without a logarithm for each pixel: the same bytes."""
    from detector.kernels.fusion import table_sums

    prob_MP = np.stack([prob_HW.ravel() for prob_HW in maps])
    total_P: Float32 = table_sums(prob_MP, shares_M[:, None] * _TABLES[fusion])
    return _pooled(total_P, fusion).reshape(maps[0].shape)


def _added(value: Float32, fusion: Fusion) -> Float32:
    """The summand of values in [0, 255]; logarithms in float64, so that machines differ in no float32 of it."""
    if fusion == "mean":
        return value
    p = np.maximum(value.astype(np.float64) / 255.0, LEAST)
    if fusion == "geometric":
        return np.asarray(np.log(p), dtype=np.float32)
    p = np.minimum(p, 1.0 - LEAST)
    return np.asarray(np.log(p / (1.0 - p)), dtype=np.float32)


def _pooled(total: Float32, fusion: Fusion) -> UInt8:
    """The byte that belongs to a sum of summands."""
    if fusion == "mean":
        return np.asarray(np.rint(total), dtype=np.uint8)
    exponent = total.astype(np.float64)
    p = np.exp(exponent) if fusion == "geometric" else 1.0 / (1.0 + np.exp(-exponent))
    return np.asarray(np.rint(255.0 * p), dtype=np.uint8)


_TABLES: Final = {fusion: _added(np.arange(256, dtype=np.float32), fusion) for fusion in FUSIONS}
