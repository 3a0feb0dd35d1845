"""Compiled loops of CLEval (arXiv 2006.06244): which centres lie in which detections, and what matches what.

Shapes: G words of the ground truth, D detections, C pseudo-character centres (PCC) of all words; the centres of word g
are `centres_C2[centre_starts_M[g]:centre_starts_M[g + 1]]`, M = G + 1. P pairs of a word and a detection that may have
anything to do with each other, as `kernels.pairs.meeting` gives them: all others match nothing and need no entry. S
centres of all pairs, those of pair p from `offset_P[p]` on.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.kernels.polygons import compiled, contains
from detector.types import Float64


@compiled
def inclusion(
    pair_starts_M: Any,
    partner_P: Any,
    centres_C2: Float64,
    centre_starts_M: Any,
    centre_box_G4: Float64,
    points_P2: Float64,
    starts_N: Any,
    box_D4: Float64,
) -> Any:
    """Which of its word's centres lie in each pair's detection, (S) bool, the offsets, and how many do, (P) int64."""
    pairs = len(partner_P)
    offset_P = np.zeros(pairs + 1, np.int64)
    for g in range(len(pair_starts_M) - 1):
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            offset_P[p + 1] = offset_P[p] + centre_starts_M[g + 1] - centre_starts_M[g]
    inside_S = np.zeros(offset_P[pairs], np.bool_)
    count_P = np.zeros(pairs, np.int64)
    for g in range(len(pair_starts_M) - 1):
        first, last = centre_starts_M[g], centre_starts_M[g + 1]
        if first == last:
            continue
        x0, y0, x1, y1 = centre_box_G4[g, 0], centre_box_G4[g, 1], centre_box_G4[g, 2], centre_box_G4[g, 3]
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            d = partner_P[p]
            if box_D4[d, 0] > x1 or box_D4[d, 2] < x0 or box_D4[d, 1] > y1 or box_D4[d, 3] < y0:
                continue
            for c in range(first, last):
                if contains(points_P2, starts_N[d], starts_N[d + 1], centres_C2[c, 0], centres_C2[c, 1]):
                    inside_S[offset_P[p] + c - first] = True
                    count_P[p] += 1
    return inside_S, offset_P, count_P


@compiled
def precisions(area_P: Float64, partner_P: Any, own_D: Float64) -> Any:
    """Area precision of each pair, float32, for `cleval` compares it so; 0 for a detection without area."""
    precision_P = np.zeros(len(area_P), np.float32)
    for p in range(len(area_P)):
        own = own_D[partner_P[p]]
        if own > 0.0:
            precision_P[p] = np.float32(area_P[p] / own)
    return precision_P


@compiled
def care_of_detections(
    pair_starts_M: Any, partner_P: Any, precision_P: Any, count_P: Any, ignored_K: Any, constraint: Any, detections: int
) -> Any:
    """Which detections count, (D) bool: not those that lie on the don't-care words `ignored_K` (indices, in order).

    `constraint` is float32, as is the sum: the order and the width decide ties as they do in `cleval` 0.1.1.
    """
    care_D = np.ones(detections, np.bool_)
    total_D = np.zeros(detections, np.float32)
    for g in ignored_K:
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            d = partner_P[p]
            if precision_P[p] >= constraint:
                care_D[d] = False
            if count_P[p] > 0:
                total_D[d] = np.float32(total_D[d] + precision_P[p])
    for d in range(detections):
        if total_D[d] >= constraint:
            care_D[d] = False
    return care_D


@compiled
def matches(
    pair_starts_M: Any,
    partner_P: Any,
    precision_P: Any,
    count_P: Any,
    care_G: Any,
    care_D: Any,
    detections: int,
    constraint: Any,
    constraint_sum: float,
) -> Any:
    """The pairs that match one-to-one, one-to-many or many-to-one, (P) bool, among the first `detections` alone.

    One-to-one asks for uniqueness over all words and detections, the ones that do not count included.

    Args:
        constraint: float32, for one area precision.
        constraint_sum: float64, for the sum over the words that one detection covers.
    """
    words = len(pair_starts_M) - 1
    match_P = np.zeros(len(partner_P), np.bool_)
    partners_G = np.zeros(words, np.int64)
    care_partners_G = np.zeros(words, np.int64)
    partners_D = np.zeros(detections, np.int64)
    covered_D = np.zeros(detections, np.int64)
    sum_D = np.zeros(detections)
    for g in range(words):
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            d = partner_P[p]
            if d >= detections or count_P[p] == 0:
                continue
            if care_G[g]:
                sum_D[d] += precision_P[p]
                covered_D[d] += 1
            if precision_P[p] >= constraint:
                partners_G[g] += 1
                partners_D[d] += 1
                if care_D[d]:
                    care_partners_G[g] += 1
    for g in range(words):
        if not care_G[g]:
            continue
        for p in range(pair_starts_M[g], pair_starts_M[g + 1]):
            d = partner_P[p]
            if d >= detections or count_P[p] == 0 or not care_D[d]:
                continue
            single = precision_P[p] >= constraint
            one_to_one = single and partners_G[g] == 1 and partners_D[d] == 1
            one_to_many = single and care_partners_G[g] >= 2
            many_to_one = covered_D[d] >= 2 and sum_D[d] >= constraint_sum
            match_P[p] = one_to_one or one_to_many or many_to_one
    return match_P


@compiled
def tally(
    pair_starts_M: Any,
    partner_P: Any,
    match_P: Any,
    inside_S: Any,
    offset_P: Any,
    count_P: Any,
    care_D: Any,
    detections: int,
) -> Any:
    """Sums over the matches, and which of the first `detections` that count matched nothing, (`detections`) bool.

    The sums (6, int64): characters hit once or more, characters in detections (each as often as it is covered), penalty
    of recall, penalty of precision (pieces - 1 each), words split, detections merged.
    """
    sums = np.zeros(6, np.int64)
    taken_D = np.zeros(detections, np.int64)
    for g in range(len(pair_starts_M) - 1):
        pieces = 0
        first, last = pair_starts_M[g], pair_starts_M[g + 1]
        for p in range(first, last):
            if match_P[p]:
                pieces += 1
                taken_D[partner_P[p]] += 1
                sums[1] += count_P[p]
        if pieces == 0:
            continue
        sums[2] += pieces - 1
        sums[4] += 1 if pieces > 1 else 0
        for c in range(offset_P[first + 1] - offset_P[first]):
            for p in range(first, last):
                if match_P[p] and inside_S[offset_P[p] + c]:
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
