"""CLEval, official variant: an image of N x N boxes, the library call on words that were prepared once."""

from __future__ import annotations

import numpy as np

from benchmarks import pages
from benchmarks.harness import STANDARD, Contest, Peer, Scale
from benchmarks.peers import published_cleval
from detector.metrics.cleval import cleval, ground_truth
from detector.types import Float64, Word

GROWS = True
IMAGES = 8  # compared count by count; half of them with don't-care words


def contest(scale: Scale) -> Contest:
    truth = pages.words(scale)
    found = pages.detections(truth)
    prepared = ground_truth(truth, "official")
    return Contest(
        ours=lambda: cleval(prepared, found, "official"),
        peers={"cleval 0.1.1": Peer(lambda: published_cleval.counts(truth, found), at_least=200)},
        equal=lambda: all(same(seed) for seed in range(IMAGES)),
        notes=lambda: f"every count equal on {IMAGES} images, {IMAGES // 2} of them with don't-care words",
    )


def same(seed: int) -> bool:
    """Every count of one image: detections jittered, split, merged, missing and false."""
    truth = pages.words(STANDARD, seed)
    if seed % 2:
        rng = np.random.default_rng(seed)
        truth = [Word(word.id, word.polygon_V2, None, bool(rng.random() < 0.2)) for word in truth]
    found = disturbed(truth, seed)
    return cleval(truth, found, "official") == published_cleval.counts(truth, found)


def disturbed(truth: list[Word], seed: int) -> list[Float64]:
    """`pages.detections` with every ninth split in halves, every tenth merged with the next, every eleventh doubled."""
    found = pages.detections(truth, seed + 100)
    more: list[Float64] = []
    for index, quad in enumerate(found[:-1]):
        if index % 9 == 0:
            top, bottom = (quad[0] + quad[1]) / 2, (quad[3] + quad[2]) / 2
            more += [np.array([quad[0], top, bottom, quad[3]]), np.array([top, quad[1], quad[2], bottom])]
        elif index % 10 == 0:
            following = found[index + 1]
            more.append(np.array([quad[0], following[1], following[2], quad[3]]))
        else:
            more += [quad] * (2 if index % 11 == 0 else 1)
    return more
