"""CLEval, competition variant: polygons of about 40 vertices on both sides, ground truth prepared once."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks import pages
from benchmarks.harness import STANDARD, Contest, Peer, Scale
from benchmarks.peers import plain_cleval_competition
from detector.metrics.cleval import cleval, ground_truth
from detector.types import Float64, Word

GROWS = True
IMAGES = 4  # compared count by count
ARC = 10  # vertices of each rounded corner


def contest(scale: Scale) -> Contest:
    truth, found = outlines(scale, 0)
    prepared = ground_truth(truth)
    return Contest(
        ours=lambda: cleval(prepared, found),
        peers={"plain": Peer(partial(plain_cleval_competition.counts, truth, found), at_least=50)},
        equal=lambda: all(same(seed) for seed in range(IMAGES)),
        rounds=5,
        notes=lambda: f"every count equal on {IMAGES} images; polygons of {len(found[0])} vertices, most not convex",
    )


def outlines(scale: Scale, seed: int) -> tuple[list[Word], list[Float64]]:
    """Words and detections with rounded, slightly uneven outlines: what simplified contours look like once offset."""
    rng = np.random.default_rng(seed)
    words = pages.words(scale, seed)
    truth = [Word(word.id, rounded(word.polygon_V2, 0.2, rng)) for word in words]
    return truth, [rounded(quad, 0.2, rng) for quad in pages.disturbed(words, seed)]


def rounded(quad_42: Float64, uneven_px: float, rng: np.random.Generator) -> Float64:
    """A quad offset by 4 px with round corners, (40, 2); the top line is the first half of the vertices."""
    turn = np.linspace(-np.pi, -np.pi / 2, ARC)
    along = quad_42[1] - quad_42[0]
    tilt = np.arctan2(along[1], along[0])
    arcs = [turn + tilt + k * np.pi / 2 for k in range(4)]
    corners = [
        corner + 4.0 * np.stack([np.cos(arc), np.sin(arc)], axis=1) for corner, arc in zip(quad_42, arcs, strict=True)
    ]
    return np.asarray(np.concatenate(corners) + rng.normal(0, uneven_px, (4 * ARC, 2)), dtype=np.float64)


def same(seed: int) -> bool:
    """Every count of one image."""
    truth, found = outlines(STANDARD, seed)
    return cleval(truth, found) == plain_cleval_competition.counts(truth, found)
