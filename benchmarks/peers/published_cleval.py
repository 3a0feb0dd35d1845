"""PyPI `cleval` 0.1.1 with the options of its `CLEvalMetric`, called as its own command line does, without files."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

from cleval.box_types import QUAD
from cleval.eval_functions import evaluation

from detector.metrics.cleval import Counts
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


def counts(words: Sequence[Word], quads: Sequence[Float64]) -> Counts:
    """The counts of one image; the scorer is handed letters where a word has none."""
    truth = []
    for word in words:
        text = word.transcription
        box = QUAD(word.polygon_V2.reshape(-1), transcription=text or "", is_dc=word.ignore)
        if text is None and not word.ignore:
            box.transcription = "#" * box.pseudo_transcription_length()
        truth.append(box)
    stats = evaluation(OPTIONS, truth, [QUAD(quad.reshape(-1), transcription="") for quad in quads]).stats
    det = stats.det
    assert det.num_char_tp_recall == det.num_char_tp_precision
    found = Counts(
        det.num_char_gt,
        det.num_char_det,
        det.num_char_fp,
        det.num_char_tp_recall,
        int(det.gran_score_recall),
        int(det.gran_score_precision),
        stats.num_splitted,
        stats.num_merged,
        stats.num_char_overlapped,
    )
    assert (found.recall, found.precision, found.hmean) == (det.recall, det.precision, det.hmean)
    return found
