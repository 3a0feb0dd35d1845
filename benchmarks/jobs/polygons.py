"""Maps to polygons: a page's probability map to simplified, offset outlines, beside the plain post-processor."""

from __future__ import annotations

from benchmarks import pages
from benchmarks.harness import Contest, Scale
from benchmarks.jobs.quads import against_plain
from detector.config import Postprocess

GROWS = True


def contest(scale: Scale) -> Contest:
    prob_HW = pages.probability_map(pages.words(scale), scale.side_px)
    rule = Postprocess(shape="polygon", max_candidates=2 * scale.words)
    return against_plain(prob_HW, rule, at_least=5, real_peers=False)
