"""PyPI `cleval` 0.1.1, called as its own command line does, without files."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from cleval.box_types import QUAD
from cleval.eval_functions import evaluation

from detector.types import Float64, Word

OPTIONS = SimpleNamespace(
    DUMP_SAMPLE_RESULT=False,
    E2E=False,
    ORIENTATION=False,
    CASE_SENSITIVE=True,
    RECALL_GRANULARITY_PENALTY_WEIGHT=1.0,
    PRECISION_GRANULARITY_PENALTY_WEIGHT=1.0,
    VERTICAL_ASPECT_RATIO_THRESH=0.5,
    AREA_PRECISION_CONSTRAINT=0.3,
)


def counts(words: list[Word], found: list[Float64]) -> Any:
    """The detection counts of one image, as `cleval` names them."""
    truth = [QUAD(word.polygon_V2.reshape(-1), transcription="") for word in words]
    for box in truth:
        box.transcription = "#" * box.pseudo_transcription_length()
    return evaluation(OPTIONS, truth, [QUAD(quad.reshape(-1), transcription="") for quad in found]).stats.det


def chars_hit(words: list[Word], found: list[Float64]) -> int:
    """Characters hit."""
    return int(counts(words, found).num_char_tp_recall)
