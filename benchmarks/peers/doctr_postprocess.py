"""The post-processor of PyPI `python-doctr` for pages that may be turned: maps to quads relative to the page's size."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version

from detector.config import Postprocess
from detector.types import Float32, Float64

NAME = f"python-doctr {version('python-doctr')}"


def postprocessor(prob_HW: Float32, rule: Postprocess) -> Callable[[], Float64]:
    """A call that returns the quads (N, 4, 2) in px; unclip ratio 1.5, whatever the rule says."""
    from doctr.models.detection.differentiable_binarization.base import DBPostProcessor

    decode = DBPostProcessor(rule.box_thresh, rule.thresh, assume_straight_pages=False)
    height, width = prob_HW.shape

    return lambda: decode(prob_HW[None, :, :, None])[0][0][:, :4] * (width, height)
