"""500 rules (thresh x box_thresh x unclip_ratio) scored with CLEval on maps of 1024 x 1024 px; times a rule and map."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np

from benchmarks import pages
from benchmarks.harness import STANDARD, Contest, Peer, Scale
from benchmarks.peers import plain_cleval_competition, plain_postprocess, published_cleval, rapidocr
from detector.config import Postprocess
from detector.geometry import fit_frame
from detector.inference.predict import PageMap
from detector.types import Float64, Page, UInt8, Word
from orchestrator.evaluation.thresholds import score_rules

RULES = tuple(
    Postprocess(thresh=float(thresh), box_thresh=float(box), unclip_ratio=float(unclip))
    for thresh, box, unclip in product(
        np.linspace(0.15, 0.42, 10), np.linspace(0.3, 0.75, 10), np.linspace(1.2, 2.4, 5)
    )
)
MAPS = 2  # of the 100: the cost is the same on each
DRAWN = 20  # rules compared, in both variants


def contest(scale: Scale) -> Contest:
    inputs = [page_of(scale, seed) for seed in range(MAPS)]

    def ours() -> None:
        for page, page_map in inputs:
            score_rules(page_map, page, RULES, "competition")

    page, page_map = inputs[0]
    words = list(page.words)

    def published() -> None:
        for rule in (RULES[111], RULES[388]):
            found = rapidocr.postprocessor(page_map.prob_HW / np.float32(255), rule)()
            published_cleval.counts(words, list(found.astype(np.float64)))

    def plain() -> None:
        published_cleval.counts(words, plain_words(page_map.prob_HW, RULES[111]))

    return Contest(
        ours=ours,
        peers={
            "RapidOCR's + cleval 0.1.1": Peer(published, at_least=300, images=2),
            "plain + cleval 0.1.1": Peer(plain, at_least=300),
        },
        equal=equal,
        images=MAPS * len(RULES),
        rounds=3,
        notes=lambda: (
            f"ours: {len(RULES)} rules on {MAPS} maps; peers: 2 rules and 1 on one map; compared: "
            f"{DRAWN} rules drawn at random, in both variants"
        ),
    )


def page_of(scale: Scale, seed: int) -> tuple[Page, PageMap]:
    """A page and its map, as a cache of maps holds it."""
    words = pages.words(scale, seed)
    prob_HW = np.rint(pages.probability_map(words, scale.side_px, seed) * 255).astype(np.uint8)
    side = (scale.side_px, scale.side_px)
    return Page(f"{seed}.png", Path(f"{seed}.png"), tuple(words)), PageMap(
        prob_HW, fit_frame(side, side[0], multiple=1)
    )


def plain_words(prob_HW: UInt8, rule: Postprocess) -> list[Float64]:
    """Words of the plain post-processor, clipped to the page."""
    height, width = prob_HW.shape
    return [np.clip(word, 0.0, [width, height]) for _, word in plain_postprocess.words(prob_HW, rule)]


def equal() -> bool:
    """Every count of rules drawn at random, each post-processed and scored anew in the plain way."""
    page, page_map = page_of(STANDARD, 7)
    words: list[Word] = list(page.words)
    drawn = np.random.default_rng(0).choice(len(RULES), DRAWN, replace=False).tolist()
    ours = {variant: score_rules(page_map, page, RULES, variant) for variant in ("competition", "official")}
    for index in drawn:
        found = plain_words(page_map.prob_HW, RULES[index])
        if ours["competition"][index] != plain_cleval_competition.counts(words, found):
            return False
        if ours["official"][index] != published_cleval.counts(words, found):
            return False
    return True
