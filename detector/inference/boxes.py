"""Box lists of several models made one by votes, for models that give no probability maps.

Boxes of different lists that lie on one another are one cluster, with at most one box of each list; a cluster is kept
if more than `votes` of all weight voted for it, and is then represented by one of its own boxes, as it is. Vertices are
never averaged: corners of different polygons do not correspond (one team went from .9854 to .8739). Where maps can be
had, `detector.inference.fusion` is the better way: a vote knows nothing of how sure a model was.

Shapes: N boxes of one page in all lists, V vertices. Lists come best box first, as submissions do.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.metrics.shapes import common_areas, pack, region
from detector.types import Float64

# ICDAR 2015's measure of one word found twice; the half of all weight is a majority.
IOU, VOTES = 0.5, 0.5
SLACK = 1e-9  # shares such as 1/3 + 1/3 + 1/3 are sums of rounded numbers


def fuse_boxes(
    lists: Sequence[Sequence[Float64]], weights: Sequence[float] | None = None, iou: float = IOU, votes: float = VOTES
) -> list[Float64]:
    """One list of one page's lists: most votes first, of equals in the order of the lists.

    Clusters grow from the pair that overlaps most: two of them become one if all boxes of the one overlap all of the
    other by `iou` at least and no list has a box in both. A cluster's box is that which its members, by weight, overlap
    most; each counts itself, so a heavy list's box wins over a light one's, and the middle one of many over the outer.

    Args:
        lists: polygons (V, 2), V >= 3, of each model.
        weights: of the lists, > 0; equal unless given.
        votes: a cluster needs more than this share of all weight.

    Raises:
        ValueError: weights that do not fit.
    """
    shares = np.asarray(weights if weights is not None else [1.0] * len(lists), dtype=np.float64)
    if len(shares) != len(lists) or not np.isfinite(shares).all() or (shares <= 0).any():
        raise ValueError(f"`weights > 0` must hold, one a list, got {list(shares)} for {len(lists)} lists")
    polygons = [polygon for boxes in lists for polygon in boxes]
    if not polygons:
        return []
    shares = shares / shares.sum()
    owner_N = np.repeat(np.arange(len(lists)), [len(boxes) for boxes in lists])
    weight_N, iou_NN = shares[owner_N], iou_matrix(polygons)
    kept = []
    for cluster in clusters(iou_NN, owner_N, iou):
        vote = float(weight_N[cluster].sum())
        if vote > votes + SLACK:
            support = iou_NN[np.ix_(cluster, cluster)] @ weight_N[cluster]
            # Rounded, or the last bit of a sum would decide between boxes that are equally good.
            best = cluster[int(np.argmax(np.round(support, 12)))]
            kept.append((-round(vote, 12), _rank(best, owner_N), int(owner_N[best]), polygons[best]))
    kept.sort(key=lambda item: item[:3])
    return [polygon for *_, polygon in kept]


def clusters(iou_NN: Float64, owner_N: NDArray[np.int64], least: float) -> list[list[int]]:
    """Indices of the boxes of each cluster, ascending; see `fuse_boxes`."""
    rows, columns = np.nonzero(np.triu(iou_NN >= least, 1) & (owner_N[:, None] != owner_N[None, :]))
    pairs = sorted(
        zip(rows.tolist(), columns.tolist(), strict=True),
        key=lambda pair: (-round(float(iou_NN[pair[0], pair[1]]), 12), pair),
    )
    home = {index: [index] for index in range(len(owner_N))}
    for one, two in pairs:
        a, b = home[one], home[two]
        if a is b or set(owner_N[a]) & set(owner_N[b]) or iou_NN[np.ix_(a, b)].min() < least:
            continue
        merged = sorted(a + b)
        for index in merged:
            home[index] = merged
    return list({id(members): members for members in home.values()}.values())


def iou_matrix(polygons: Sequence[Float64]) -> Float64:
    """Intersection over union of all pairs, (N, N); 1 on the diagonal, 0 beside it where nothing has an area."""
    packed = pack(polygons, truncate=False)
    common = common_areas(
        packed.box_N4, packed, np.arange(len(packed)), packed, lambda index: region(packed.polygon(index))
    ).matrix(len(packed))
    area_N = np.abs(packed.area_N)
    union_NN = area_N[:, None] + area_N[None, :] - common
    found = np.divide(common, union_NN, out=np.zeros_like(common), where=union_NN > 0)
    found = np.clip(np.maximum(found, found.T), 0.0, 1.0)  # the two orders differ by rounding
    np.fill_diagonal(found, 1.0)
    result: Float64 = found
    return result


def _rank(index: int, owner_N: NDArray[np.int64]) -> int:
    """The place of a box in its own list."""
    return int(index - np.searchsorted(owner_N, owner_N[index]))
