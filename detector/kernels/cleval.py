"""Compiled loops of CLEval (arXiv 2006.06244): which centres lie in which detections, and what matches what.

Shapes: G words of the ground truth, D detections, C pseudo-character centres (PCC) of all words; the centres of word g
are `centres_C2[centre_starts_M[g]:centre_starts_M[g + 1]]`, M = G + 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import compiled, contains
from detector.types import Float64


@compiled
def inclusion(
    centres_C2: Float64,
    centre_starts_M: Any,
    centre_box_G4: Float64,
    points_P2: Float64,
    starts_N: Any,
    box_D4: Float64,
) -> Any:
    """Which centres lie in which detections, (C, D) bool, and how many of each word's do, (G, D) int64."""
    words, detections = len(centre_starts_M) - 1, len(starts_N) - 1
    inside_CD = np.zeros((len(centres_C2), detections), np.bool_)
    count_GD = np.zeros((words, detections), np.int64)
    for g in range(words):
        first, last = centre_starts_M[g], centre_starts_M[g + 1]
        if first == last:
            continue
        x0, y0, x1, y1 = centre_box_G4[g, 0], centre_box_G4[g, 1], centre_box_G4[g, 2], centre_box_G4[g, 3]
        for d in range(detections):
            if box_D4[d, 0] > x1 or box_D4[d, 2] < x0 or box_D4[d, 1] > y1 or box_D4[d, 3] < y0:
                continue
            for c in range(first, last):
                if contains(points_P2, starts_N[d], starts_N[d + 1], centres_C2[c, 0], centres_C2[c, 1]):
                    inside_CD[c, d] = True
                    count_GD[g, d] += 1
    return inside_CD, count_GD


@compiled
def care_of_detections(precision_GD: Any, count_GD: Any, ignored_K: Any, constraint: Any) -> Any:
    """Which detections count, (D) bool: not those that lie on the don't-care words `ignored_K` (indices, in order).

    `constraint` is float32, as is the sum: the order and the width decide ties as they do in `cleval` 0.1.1.
    """
    detections = precision_GD.shape[1]
    care_D = np.ones(detections, np.bool_)
    for d in range(detections):
        total = np.float32(0.0)
        for g in ignored_K:
            if precision_GD[g, d] >= constraint:
                care_D[d] = False
                break
            if count_GD[g, d] > 0:
                total = np.float32(total + precision_GD[g, d])
        if total >= constraint:
            care_D[d] = False
    return care_D


@compiled
def matches(precision_GD: Any, count_GD: Any, care_G: Any, care_D: Any, constraint: Any, constraint_sum: float) -> Any:
    """The pairs that match one-to-one, one-to-many or many-to-one, (G, D) bool.

    One-to-one asks for uniqueness over all words and detections, the ones that do not count included.

    Args:
        constraint: float32, for one area precision.
        constraint_sum: float64, for the sum over the words that one detection covers.
    """
    words, detections = precision_GD.shape
    match_GD = np.zeros((words, detections), np.bool_)
    partners_G = np.zeros(words, np.int64)
    partners_D = np.zeros(detections, np.int64)
    care_partners_G = np.zeros(words, np.int64)
    sum_D = np.zeros(detections)
    covered_D = np.zeros(detections, np.int64)
    for g in range(words):
        for d in range(detections):
            if count_GD[g, d] == 0:
                continue
            if care_G[g]:
                sum_D[d] += precision_GD[g, d]
                covered_D[d] += 1
            if precision_GD[g, d] >= constraint:
                partners_G[g] += 1
                partners_D[d] += 1
                if care_D[d]:
                    care_partners_G[g] += 1
    for g in range(words):
        if not care_G[g]:
            continue
        for d in range(detections):
            if count_GD[g, d] == 0 or not care_D[d]:
                continue
            single = precision_GD[g, d] >= constraint
            one_to_one = single and partners_G[g] == 1 and partners_D[d] == 1
            one_to_many = single and care_partners_G[g] >= 2
            many_to_one = covered_D[d] >= 2 and sum_D[d] >= constraint_sum
            match_GD[g, d] = one_to_one or one_to_many or many_to_one
    return match_GD


@compiled
def tally(match_GD: Any, inside_CD: Any, count_GD: Any, centre_starts_M: Any, care_D: Any) -> Any:
    """Sums over the matches, and which detections that count matched nothing, (D) bool.

    The sums (6, int64): characters hit once or more, characters in detections (each as often as it is covered), penalty
    of recall, penalty of precision (pieces - 1 each), words split, detections merged.
    """
    words, detections = match_GD.shape
    sums = np.zeros(6, np.int64)
    taken_D = np.zeros(detections, np.int64)
    for g in range(words):
        pieces = 0
        for d in range(detections):
            if match_GD[g, d]:
                pieces += 1
                taken_D[d] += 1
                sums[1] += count_GD[g, d]
        if pieces == 0:
            continue
        sums[2] += pieces - 1
        sums[4] += 1 if pieces > 1 else 0
        for c in range(centre_starts_M[g], centre_starts_M[g + 1]):
            for d in range(detections):
                if match_GD[g, d] and inside_CD[c, d]:
                    sums[0] += 1
                    break
    alone_D = np.zeros(detections, np.bool_)
    for d in range(detections):
        if taken_D[d] > 0:
            sums[3] += taken_D[d] - 1
            sums[5] += 1 if taken_D[d] > 1 else 0
        else:
            alone_D[d] = care_D[d]
    return sums, alone_D
