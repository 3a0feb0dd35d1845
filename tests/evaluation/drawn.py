"""Models whose maps are drawn, so that every score is known beforehand.

Each page has four words. Model A never finds the first, model B never the second, model C neither; none invents any.
Where one of two members is sure (255) and the other is not (0), the fused map says 128 / 255 = .5.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detector import checkpoint
from detector.config import Config, Postprocess
from detector.files import write_bytes
from detector.geometry import fit_frame
from detector.types import Page, Word
from orchestrator.evaluation import maps as maps_module
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial

SIDE = 160
WORDS = [(20, 20), (90, 20), (20, 80), (90, 80)]  # x, y of words of 50 x 14 px
RULE = Postprocess(unclip_ratio=0.0)
CONFIG = Config(
    encoder="mobilenetv3_small_050",
    encoder_weights="none",
    inner_channels=8,
    output_channels=8,
    image_size=SIDE,
    postprocess=RULE,
)
MISSES = {"a": (0,), "b": (1,), "c": (0, 1)}


def corners(index: int, number: int) -> np.ndarray:
    x, y = WORDS[index][0] + number, WORDS[index][1]
    return np.array([[x, y], [x + 50, y], [x + 50, y + 14], [x, y + 14]], dtype=np.float64)


def make_pages(folder: Path, prefix: str, count: int) -> tuple[Page, ...]:
    """Pages of four words each, one px further right on each page."""
    found = []
    for number in range(count):
        path = folder / f"{prefix}{number}.png"
        Image.new("RGB", (SIDE, SIDE), (250, 250 - number, 250 - 9 * len(prefix))).save(path)
        found.append(Page(path.name, path, tuple(Word(str(i), corners(i, number)) for i in range(len(WORDS)))))
    return tuple(found)


def draw_maps(
    ledger: Ledger, trial: Trial, pages: Sequence[Page], misses: tuple[int, ...], view: str = "identity"
) -> None:
    """Write a model's maps as a Ray task would have: all words of a page but those that it `misses`."""
    store = ledger.folder(trial.digest) / "best"
    weights = str(checkpoint.load_meta(store)["digest"])
    folder = ledger.workspace / "maps" / maps_module._key(weights, maps_module.digest_of(pages), (view,))
    frame = fit_frame((SIDE, SIDE), SIDE, multiple=1)
    for index, page in enumerate(pages):
        prob_HW = np.zeros((SIDE, SIDE), dtype=np.uint8)
        for number, word in enumerate(page.words):
            (x, y), _, (right, below), _ = word.polygon_V2.astype(int)
            prob_HW[y:below, x:right] = 0 if number in misses else 255
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, prob_HW=prob_HW, matrix_33=frame.matrix_33, image_wh=frame.image_wh, canvas_wh=frame.canvas_wh
        )
        write_bytes(folder / f"{index:05d}.npz", buffer.getvalue())
