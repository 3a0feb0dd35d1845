"""Soups of trials' best epochs beside the trials themselves: candidates of an ensemble, and what they are worth alone.

A trial with `keep_epochs` ends with its best checkpoint and, where averaging did not cost validation score, with a soup
of its best epochs (`detector.training.soup`): a second model of the same size. Its epochs were picked on the validation
images, one after the other, so there it cannot score below the best checkpoint; that it gains is said only where the
paired interval, widened for the number of picks, lies above 0. Trials compete by their best checkpoints: rankings,
gates, folds and `top(...)` do not know of soups. An ensemble that asks for them judges them, cross-fitted, like any
other member.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.files import read_json
from detector.training.kept import RECORD
from orchestrator.evaluation.scores import Board, ImageScores, top
from orchestrator.evaluation.statistics import LEVEL, Interval, paired_bootstrap
from orchestrator.ledger import Ledger
from orchestrator.plan.study import EnsembleSpec, Study, Trial

SUFFIX = "+soup"  # of the name of a trial, where its soup is meant


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that an ensemble may have: the best checkpoint of a trial, or its soup."""

    trial: Trial
    soup: bool = False

    @property
    def name(self) -> str:
        return self.trial.name + (SUFFIX if self.soup else "")

    def scores(self, board: Board) -> ImageScores:
        """On the validation images, under the rule of its config."""
        return (board.soups if self.soup else board.scores)[self.trial.digest]

    def best(self, ledger: Ledger) -> Path:
        """Its checkpoint, whose weights may have been freed."""
        return ledger.best(self.trial.digest, soup=self.soup)

    def checkpoint(self, ledger: Ledger) -> Path:
        """Its checkpoint; LedgerError where its weights were freed."""
        return ledger.checkpoint(self.trial.digest, soup=self.soup)


def candidates(study: Study, board: Board, spec: EnsembleSpec, phase: str) -> tuple[Candidate, ...]:
    """What an ensemble may choose from: its pool, best first, with the soups that it asks for.

    Args:
        phase: where the ensemble stands.
    """
    found: list[Candidate] = []
    for trial in top(study, board, spec.pool, phase):
        has = spec.soups != "none" and trial.digest in board.soups
        found += [] if has and spec.soups == "instead" else [Candidate(trial)]
        found += [Candidate(trial, soup=True)] if has else []
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Soup:
    """What became of the kept epochs of one trial.

    Attributes:
        epochs: in the soup, the best first; a single one makes none.
        tried: epochs that were offered to it.
        scores: on the validation images under the trial's own rule; None without a soup.
        gain: of the mean H above the trial's best checkpoint, widened for the number of picks.
    """

    trial: Trial
    epochs: tuple[int, ...]
    tried: int
    scores: ImageScores | None
    gain: Interval | None

    def __str__(self) -> str:
        told = f"{self.trial.name}: soup of {len(self.epochs)} of {self.tried} best epochs"
        if self.scores is None or self.gain is None:
            return told if len(self.epochs) > 1 else f"{self.trial.name}: no soup; none of {self.tried} epochs helped"
        return f"{told}, H {self.scores.mean('hmean'):.4f}, against its best checkpoint {self.gain}"


def soups_of(trials: Sequence[Trial], board: Board, ledger: Ledger) -> tuple[Soup, ...]:
    """What is known of the soups of these trials."""
    found = []
    for trial in trials:
        path = ledger.folder(trial.digest) / RECORD
        if trial.digest not in board.scores or not path.is_file():
            continue
        value: dict[str, Any] = read_json(path)
        scores, gain, tried = board.soups.get(trial.digest), None, len(value["tried"])
        if scores is not None:
            level = 1 - (1 - LEVEL) / max(1, tried - 1)
            own = board.scores[trial.digest]
            gain = paired_bootstrap(scores.stat_N("hmean"), own.stat_N("hmean"), level=level)
        found.append(Soup(trial, tuple(value["epochs"]), tried, scores, gain))
    return tuple(found)
