"""ICDAR's IoU matching of an image: N x N quads."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks import pages
from benchmarks.harness import STANDARD, Contest, Peer, Scale
from benchmarks.peers import doctr_iou, plain_iou
from detector.metrics.iou import iou, iou_pairs

GROWS = True
IMAGES = 4  # compared pair by pair; half of them with don't-care words


def contest(scale: Scale) -> Contest:
    truth = pages.words(scale)
    found = pages.detections(truth)
    words_N42, found_M42 = np.array([word.polygon_V2 for word in truth]), np.array(found)
    return Contest(
        ours=lambda: iou(truth, found),
        peers={
            "plain": Peer(partial(plain_iou.counts, truth, found), at_least=2000),
            "docTR 1.1": Peer(partial(doctr_iou.counts, words_N42, found_M42), at_least=8),
        },
        equal=lambda: all(same(seed) for seed in range(IMAGES)),
        rounds=5,
        notes=lambda: (
            f"every match equal on {IMAGES} images, {IMAGES // 2} of them with don't-care words; "
            f"docTR's matches {doctr_iou.counts(words_N42, found_M42)[2]}, ours {iou(truth, found).matched}"
        ),
    )


def same(seed: int) -> bool:
    """Every matched pair of one image, and the counts."""
    truth, found = pages.contested(STANDARD, seed)
    pairs, counts = plain_iou.matches(truth, found)
    return iou_pairs(truth, found) == pairs and tuple(iou(truth, found).as_row()) == counts
