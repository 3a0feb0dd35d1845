"""Checks of one page's words: outlines that are none, that lie outside, and that lie on each other.

Shapes: W words, V vertices. Coordinates: (x, y) in px, the EXIF-corrected image frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import shapely

from detector.geometry import area, clip_polygon, perimeter
from detector.types import Float64, Word

NO_AREA_PX2: Final = 1.0  # less than a pixel: no target is painted for it
BEYOND_PX: Final = 1.0  # farther out than rounding explains
SAME_IOU: Final = 0.95  # two annotations of one word


@dataclass(frozen=True, slots=True)
class WordFault:
    """`kind` is one of `check.KINDS`; `words` holds ids."""

    kind: str
    words: tuple[str, ...]
    detail: str = ""


def check_words(words: Sequence[Word], wh: tuple[int, int] | None) -> Iterator[WordFault]:
    """What is wrong with a page's words, in their order; places in the image only where its size is known."""
    outlines = [shapely.Polygon(word.polygon_V2) for word in words]
    whole = [bool(valid) for valid in shapely.is_valid(np.array(outlines, dtype=object))]
    for word, is_whole in zip(words, whole, strict=True):
        # A bow tie has no area by the shoelace though each of its lobes has: it is called by its true name.
        size = area(word.polygon_V2)
        if size < NO_AREA_PX2 and (is_whole or _flat(word.polygon_V2)):
            yield WordFault("degenerate", (word.id,), f"has an area of {size:.3g} px²")
        elif not is_whole:
            yield WordFault("crossing", (word.id,))
        if wh is not None:
            yield from _place(word, wh)
    yield from _twice(words, outlines, whole)


def sides(polygons: Sequence[Float64]) -> Float64:
    """Long and short side in px, (W, 2), of the rectangles with each polygon's area and perimeter.

    Right for rectangles however they are turned: their sides solve s^2 - s perimeter / 2 + area = 0.
    """
    half_W = np.array([perimeter(polygon) / 2.0 for polygon in polygons])
    area_W = np.array([area(polygon) for polygon in polygons])
    root_W = np.sqrt(np.maximum(half_W**2 - 4.0 * area_W, 0.0))
    return np.stack([half_W + root_W, half_W - root_W], axis=-1) / 2.0


def _flat(polygon_V2: Float64) -> bool:
    """Whether all vertices lie on a line, nearly."""
    return float(shapely.MultiPoint(polygon_V2).convex_hull.area) < NO_AREA_PX2


def _place(word: Word, wh: tuple[int, int]) -> Iterator[WordFault]:
    low, high = word.polygon_V2.min(axis=0), word.polygon_V2.max(axis=0)
    out = float(max(np.max(-low), np.max(high - wh)))
    if out <= 0.0:
        return
    inside = clip_polygon(word.polygon_V2, wh)
    if len(inside) < 3 or np.ptp(inside, axis=0).min() <= 0.0:
        yield WordFault("outside", (word.id,), f"by {out:.1f} px")
    elif out > BEYOND_PX:
        yield WordFault("beyond", (word.id,), f"by {out:.1f} px")


def _twice(words: Sequence[Word], outlines: Sequence[shapely.Polygon], whole: Sequence[bool]) -> Iterator[WordFault]:
    """Pairs of words that cover each other, and words with the very same outline, crossing or not."""
    if len(words) < 2:
        return
    tree = shapely.STRtree(outlines)
    first, second = tree.query(np.array(outlines, dtype=object))
    for a, b in sorted(zip(first.tolist(), second.tolist(), strict=True)):
        if a >= b:
            continue
        if np.array_equal(words[a].polygon_V2, words[b].polygon_V2):
            yield WordFault("twice", (words[a].id, words[b].id), "the same outline")
        elif whole[a] and whole[b]:
            smaller, larger = sorted((outlines[a].area, outlines[b].area))
            if smaller < SAME_IOU * larger or larger <= 0.0:
                continue
            common = float(outlines[a].intersection(outlines[b]).area)
            iou = common / (smaller + larger - common)
            if iou >= SAME_IOU:
                yield WordFault("twice", (words[a].id, words[b].id), f"IoU {iou:.3f}")
