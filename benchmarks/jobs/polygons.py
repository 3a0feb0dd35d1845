"""Maps to polygons: a page's probability map to simplified, offset outlines, beside the plain post-processor."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.jobs.quads import against_plain
from benchmarks.peers import plain_postprocess
from detector.config import Postprocess

GROWS = True


def contest(scale: Scale) -> Contest:
    prob_HW = pages.probability_map(pages.words(scale), scale.side_px)
    rule = Postprocess(shape="polygon", max_candidates=2 * scale.words)
    exact = against_plain(prob_HW, rule, at_least=5, real_peers=False)
    # The exact twin searches its rectangles in numpy; the fair opponent in time leaves that to OpenCV.
    quick = Peer(lambda: plain_postprocess.words(prob_HW, rule, plain_postprocess.opencv_rectangle), at_least=5)
    return replace(exact, peers={**exact.peers, "plain, cv2.minAreaRect": quick})
