"""A training sample from its JPEG: decoded, moved, lit, normalised, with its maps; the mean over `DRAWS` draws."""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import pages
from benchmarks.harness import Contest, Peer, Scale
from benchmarks.peers import plain_pipeline
from detector.config import Config
from detector.data.dataset import TrainSet, start_worker
from detector.types import Float64, Page

GROWS = True
DRAWS = (
    8  # a call makes this many samples, each time others: blur and noise are rare, and noise takes as long as all else
)
COMPARED = 48  # samples whose statistics are compared


def contest(scale: Scale) -> Contest:
    start_worker(0)  # as the processes of a loader start
    folder = tempfile.TemporaryDirectory(prefix="pipeline-")
    words, path = pages.words(scale), Path(folder.name) / "page.jpg"
    Image.fromarray(pages.picture(words, scale.side_px)).save(path, quality=90)
    page, config = Page("page.jpg", path, tuple(words)), Config(image_size=scale.side_px)
    train = TrainSet([page], config)
    ours_draws, plain_draws = itertools.count(), itertools.count()

    def ours() -> None:
        assert folder.name  # the page lives as long as the contest
        for _ in range(DRAWS):
            train[(next(ours_draws), 0)]

    def plain() -> None:
        for _ in range(DRAWS):
            plain_pipeline.sample(page, config, next(plain_draws))

    def equal() -> bool:
        seen: list[list[list[float]]] = [[], []]
        for draw in range(COMPARED):
            seen[0].append(plain_pipeline.statistics(*train.sample(draw, 0)))
            _, maps, image = plain_pipeline.sample(page, config, draw)
            seen[1].append(plain_pipeline.statistics(image, maps))
        first: Float64 = np.array(seen[0])
        return plain_pipeline.agree(first, np.array(seen[1]))

    return Contest(
        ours=ours,
        peers={"plain": Peer(plain, at_least=4, images=DRAWS)},
        equal=equal,
        images=DRAWS,
        notes=lambda: f"equal in distribution: {COMPARED} samples each, ten statistics",
    )
