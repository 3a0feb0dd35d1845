"""Soups in a report: what became of the epochs that trainings kept."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.evaluation.decisions import score_text
from orchestrator.evaluation.soups import Soup
from orchestrator.report.document import Block, Heading, Table, Text

NOTE = (
    "A soup averages the weights of one training's best epochs, as far as its score on the validation images does not "
    "fall: one model, at the cost of one. Its epochs were picked on these images, so its gain there is flattered, and "
    "its interval is widened for the number of picks. `ensemble: {soups: instead, max_members: 1}` makes a model of "
    "the best one; `soups: beside` offers them as further members."
)


def soups_blocks(soups: Sequence[Soup]) -> list[Block]:
    """One table; nothing where no training kept epochs."""
    if not soups:
        return []
    header = ("trial", "epochs in the soup", "of", "H, P, R under its own rule", "gain over its best checkpoint", "")
    return [Heading("Soups"), Table(header, [_row(soup) for soup in soups]), Text(NOTE)]


def _row(soup: Soup) -> list[str]:
    epochs = ", ".join(map(str, soup.epochs))
    if soup.scores is None or soup.gain is None:
        verdict = "not scored yet" if len(soup.epochs) > 1 else "no other epoch helped"
        return [soup.trial.name, epochs, str(soup.tried), "-", "-", verdict]
    verdict = "surely better" if soup.gain.above_zero else "not surely better"
    return [soup.trial.name, epochs, str(soup.tried), score_text(soup.scores.summary()), str(soup.gain), verdict]
