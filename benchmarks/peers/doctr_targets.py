"""docTR's builder of DBNet's target maps (`_DBNet.build_target`), called as its training loop calls it."""

from __future__ import annotations

import numpy as np
from doctr.models.detection.differentiable_binarization.base import _DBNet
from numpy.typing import NDArray

from benchmarks.harness import Work
from detector.types import Word


def builder(words: list[Word], side_px: int) -> Work:
    """One call: (text, text counts, threshold, threshold counts), each (1, 1, side, side)."""
    quads = (np.stack([word.polygon_V2 for word in words]) / side_px).clip(0, 1).astype(np.float32)
    model = _DBNet()
    return lambda: model.build_target([{"words": quads}], (1, side_px, side_px))


def maps(words: list[Word], side_px: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability and threshold map."""
    built = builder(words, side_px)()
    return built[0][0, 0], built[2][0, 0]  # type: ignore[index]
