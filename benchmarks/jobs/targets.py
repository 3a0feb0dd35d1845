"""Both target maps of a page, with their masks."""

from __future__ import annotations

import numpy as np

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import doctr_targets
from benchmarks.peers.plain_targets import plain_targets
from detector.config import Targets
from detector.data.targets import targets
from detector.training.memory import keep_heap

GROWS = True


def contest(scale: Scale) -> Contest:
    keep_heap()  # as in a training on a CPU: all sides would else pay for fresh pages at every page
    words = pages.words(scale)
    task = [word.polygon_V2 for word in words], [False] * len(words), (scale.side_px, scale.side_px), Targets()

    def equal() -> bool:
        found, wanted = targets(*task), plain_targets(*task)
        exact = ("prob_HW", "prob_mask_HW", "thresh_mask_HW")
        return all(np.array_equal(getattr(found, name), getattr(wanted, name)) for name in exact) and bool(
            np.abs(found.thresh_HW - wanted.thresh_HW).max() <= 1e-6
        )

    def notes() -> str:
        found, (prob, thresh) = targets(*task), doctr_targets.maps(words, scale.side_px)
        share = float((found.prob_HW != prob).sum() / found.prob_HW.sum())
        near = found.thresh_mask_HW
        apart = float(np.abs(found.thresh_HW - thresh)[near].mean())
        return (
            f"docTR offsets in whole pixels: {share:.1%} of the text's pixels differ from ours and plain's, the "
            f"threshold by {apart:.3f} in the mean near words"
        )

    return Contest(
        ours=lambda: targets(*task),
        peers={
            "plain": Peer(lambda: plain_targets(*task), at_least=25),
            "docTR 1.1.0": Peer(doctr_targets.builder(words, scale.side_px), at_least=25),
        },
        equal=equal,
        notes=notes,
    )
