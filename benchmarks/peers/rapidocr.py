"""The post-processor of PyPI `rapidocr-onnxruntime`: maps to rotated quads, whole pixels at pixel centres."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray

from detector.config import Postprocess
from detector.types import Float32

NAME = f"rapidocr-onnxruntime {version('rapidocr-onnxruntime')}"


def postprocessor(prob_HW: Float32, rule: Postprocess) -> Callable[[], NDArray[np.int32]]:
    """A call that returns the quads (N, 4, 2)."""
    from rapidocr_onnxruntime.ch_ppocr_det.utils import DBPostProcess

    decode = DBPostProcess(rule.thresh, rule.box_thresh, rule.max_candidates, rule.unclip_ratio)
    return lambda: decode(prob_HW[None, None], prob_HW.shape)[0]
