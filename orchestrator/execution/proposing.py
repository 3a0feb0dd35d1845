"""The trials of a sweep that are made while it runs: what is known, the point that follows from it, the trial.

The ledger has each proposal before its trial starts, with what it saw. So a run that goes on hands out the same ones
again; and a new one depends on (the sweep's seed, its number, what is known when it is asked for) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from orchestrator.execution.asha import VALUE
from orchestrator.ledger import Ledger
from orchestrator.plan import space
from orchestrator.plan.points import Drawn, draw, draw_one
from orchestrator.plan.proposals import RUNNING, Outcome, Proposal, as_kept, proposed, read_proposals
from orchestrator.plan.study import Experiment, Proposals, Study, Trial
from orchestrator.records import TrialRecord


def outcome_of(record: TrialRecord) -> Outcome:
    """What a sampler is told of a trial; one without a finite value has told nothing."""
    if record.state == "finished":
        value = (record.best or {}).get(VALUE, math.nan)
        return Outcome("finished", value) if math.isfinite(value) else Outcome("failed")
    if record.state == "pruned":
        last = record.epochs[-1] if record.epochs else None
        value = math.nan if last is None else last.metrics.get(VALUE, math.nan)
        return Outcome("pruned", value, last.number) if last and math.isfinite(value) else Outcome("failed")
    return Outcome("failed") if record.state == "failed" else RUNNING


def next_point(
    rule: Proposals,
    history: Sequence[tuple[Drawn, Outcome]],
    fits: Callable[[Drawn], bool] = lambda drawn: True,
) -> tuple[Drawn, Literal["tpe", "random"]] | None:
    """The point of the next trial and how it was found, from the sweep and the trials so far alone.

    Args:
        history: every trial so far, the random starts included, in their order.
        fits: whether a point's settings can be trained and are not those of a trial so far.

    Returns:
        None where the space has no other point.
    """
    axes, index = space.axes_of(rule.space), len(history)
    names = {drawn.name for drawn, _ in history}

    def refused(drawn: Drawn) -> bool:
        return drawn.name in names or not fits(drawn)

    if sum(outcome.state in ("finished", "pruned") for _, outcome in history) >= rule.starts:
        from orchestrator.execution.tpe import propose  # loads Optuna, which only a sweep that proposes needs

        told = [(drawn.picks, outcome) for drawn, outcome in history]
        found = propose(axes, rule.seed, index, told, rule.candidates, refused)
        if found is not None:
            return found, "tpe"
    found = draw_one(axes, rule.seed, index, refused)
    return None if found is None else (found, "random")


class Proposing:
    """The trials of one experiment that are still to be made.

    Args:
        experiment: with all trials that the ledger knows.
    """

    def __init__(self, experiment: Experiment, study: Study, ledger: Ledger) -> None:
        assert experiment.proposals is not None
        self.experiment, self._study, self._ledger = experiment, study, ledger
        self._rule = rule = experiment.proposals
        self._trials = list(experiment.trials)
        self._rows = list(read_proposals(ledger.proposals(rule.sweep), rule)[: len(self._trials) - rule.starts])
        starts = draw(space.axes_of(rule.space), rule.starts, rule.seed)
        self._points = [*starts, *(Drawn(row.point, row.picks) for row in self._rows)]
        self._seen: dict[int, Outcome] = {}
        for row in self._rows:
            self._seen |= row.news

    @property
    def left(self) -> int:
        """How many are still to be made."""
        return self._rule.trials - len(self._trials)

    def make(self) -> Trial:
        """The next trial, from what the ledger knows now; its proposal is kept before this returns.

        Raises:
            RuntimeError: the space has no other point. (As many as there are trials were drawn when it was read.)
        """
        made: dict[str, Trial] = {}
        digests = {trial.digest for trial in self._trials}
        index = len(self._trials)

        def fits(drawn: Drawn) -> bool:
            try:
                trial = proposed(self._study, self.experiment, index, drawn.point)
            except ValidationError:
                return False
            made[drawn.name] = trial
            return trial.digest not in digests

        outcomes = [outcome_of(self._ledger.record(trial.digest)) for trial in self._trials]
        found = next_point(self._rule, list(zip(self._points, outcomes, strict=True)), fits)
        if found is None:
            raise RuntimeError(f"{self.experiment.phase}/{self.experiment.id}: the space has no other point to propose")
        drawn, by = found
        trial = made[drawn.name]
        news = {i: now for i, now in enumerate(outcomes) if now != self._seen.get(i, RUNNING)}
        self._rows.append(Proposal(index, drawn.point, drawn.picks, trial.digest, by, news))
        name = f"{self.experiment.phase}/{self.experiment.id}"
        self._ledger.put_proposals(self._rule.sweep, as_kept(self._rule, name, self._rows))
        self._trials.append(trial)
        self._points.append(drawn)
        self._seen |= news
        return trial


def seen_by(rows: Sequence[Proposal], number: int, starts: int) -> Mapping[int, Outcome]:
    """What proposal number `number` of those kept saw: the outcome of every trial before it."""
    news: dict[int, Outcome] = {}
    for row in rows[: number + 1]:
        news |= row.news
    return {index: news.get(index, RUNNING) for index in range(starts + number)}
