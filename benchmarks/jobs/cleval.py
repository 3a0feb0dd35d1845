"""CLEval, official variant: an image of N x N boxes, the library call on words that were prepared once."""

from __future__ import annotations

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import published_cleval
from detector.metrics.cleval import cleval, ground_truth

GROWS = True


def contest(scale: Scale) -> Contest:
    truth = pages.words(scale)
    found = pages.detections(truth)
    prepared = ground_truth(truth, "official")
    return Contest(
        ours=lambda: cleval(prepared, found, "official"),
        peers={"cleval 0.1.1": Peer(lambda: published_cleval.counts(truth, found), at_least=200)},
        equal=lambda: published_cleval.chars_hit(truth, found) == cleval(prepared, found, "official").chars_hit,
    )
