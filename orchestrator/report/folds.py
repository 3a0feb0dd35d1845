"""Fold experiments in a report: one row each."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.evaluation.decisions import score_text
from orchestrator.evaluation.outoffold import FoldResult
from orchestrator.report.document import Block, Heading, Table, Text

NOTE = (
    "Every training is scored on the common validation images, so folds can be compared; the sd is that of the folds. "
    "Out-of-fold scores take each training image under the models that did not learn from it, averaged over their "
    "seeds, and under the post-processing of the trainings themselves."
)
HEADER = ("experiment", "trainings", "H by fold", "mean", "sd", "out-of-fold", "95 % interval of H", "training images")


def folds_blocks(results: Sequence[FoldResult]) -> list[Block]:
    """One table of all; nothing without fold experiments."""
    if not results:
        return []
    return [Heading("Folds"), Table(HEADER, [_row(result) for result in results]), Text(NOTE)]


def _row(result: FoldResult) -> list[str]:
    by_fold = ", ".join(f"{fold}: {hmean:.4f}" for fold, hmean in result.val.items())
    cells = [result.name, str(result.trainings), by_fold, f"{result.mean:.4f}", f"{result.sd:.4f}"]
    interval = result.interval
    if result.scores is None or interval is None:
        return [*cells, "to come" if result.wanted else "-", "-", "-"]
    ends = f"[{interval.low:.4f}, {interval.high:.4f}]"
    return [*cells, score_text(result.scores.summary()), ends, str(len(result.scores.names))]
