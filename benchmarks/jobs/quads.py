"""Maps to rotated quads: a page's probability map to its words, beside RapidOCR, docTR and the plain post-processor."""

from __future__ import annotations

import numpy as np

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import doctr_postprocess, plain_postprocess, rapidocr
from detector.config import Postprocess
from detector.inference.postprocess import words_from_map
from detector.types import Float32

GROWS = True


def contest(scale: Scale) -> Contest:
    prob_HW = pages.probability_map(pages.words(scale), scale.side_px)
    return against_plain(prob_HW, Postprocess(max_candidates=2 * scale.words), at_least=8, real_peers=True)


def against_plain(prob_HW: Float32, rule: Postprocess, at_least: float, real_peers: bool) -> Contest:
    """Ours beside the plain post-processor and, if they do this work, RapidOCR's and docTR's; every vertex compared."""
    peers = {"plain": Peer(lambda: plain_postprocess.words(prob_HW, rule), at_least)}
    if real_peers:
        peers[rapidocr.NAME] = Peer(rapidocr.postprocessor(prob_HW, rule), at_least)
        peers[doctr_postprocess.NAME] = Peer(doctr_postprocess.postprocessor(prob_HW, rule), at_least)
    return Contest(
        ours=lambda: words_from_map(prob_HW, rule),
        peers=peers,
        equal=lambda: equal(prob_HW, rule),
        notes=lambda: f"{len(words_from_map(prob_HW, rule).polygons)} words",
    )


def equal(prob_HW: Float32, rule: Postprocess) -> bool:
    """Whether ours has the plain one's words in its order: scores to 1e-12, every vertex to 1e-9 px."""
    ours, plain = words_from_map(prob_HW, rule), plain_postprocess.words(prob_HW, rule)
    return len(ours.polygons) == len(plain) and all(
        abs(score - their_score) <= 1e-12 and polygon.shape == theirs.shape and np.allclose(polygon, theirs, 0.0, 1e-9)
        for polygon, score, (their_score, theirs) in zip(ours.polygons, ours.scores_N, plain, strict=True)
    )
