"""CLEval, official variant: an image of N x N boxes, the library call on words that were prepared once."""

from __future__ import annotations

from benchmarks import pages
from benchmarks.harness import STANDARD, Contest, Peer, Scale
from benchmarks.peers import published_cleval
from detector.metrics.cleval import cleval, ground_truth

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
    truth, found = pages.contested(STANDARD, seed)
    return cleval(truth, found, "official") == published_cleval.counts(truth, found)
