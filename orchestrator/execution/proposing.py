"""The trials of a sweep that are made while it runs: what is known, the point that follows from it, the trial.

The ledger has each proposal before its trial starts, with what it saw, and with the points that came up before it and
would not do. So a run that goes on hands out the same ones again; and a new one depends on (the sweep's seed, its
number, what is known when it is asked for) alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ValidationError

from orchestrator.execution.words import VALUE
from orchestrator.ledger import Ledger
from orchestrator.plan import space
from orchestrator.plan.faults import message_of
from orchestrator.plan.points import Drawn, draw, draw_one
from orchestrator.plan.proposals import (
    RUNNING,
    LeftOut,
    Outcome,
    Proposal,
    Refused,
    as_kept,
    proposed,
    read_left_out,
    read_proposals,
)
from orchestrator.plan.study import Experiment, Proposals, Study, Trial
from orchestrator.records import TrialRecord

KNOWN: Final = "known"  # why a point did not become a trial: an earlier one has it,
SAME: Final = "same training"  # ... or has, by another point, the same settings


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


@dataclass(frozen=True, slots=True)
class Next:
    """The point of a trial, how it was found, and what came up before it and would not do."""

    drawn: Drawn
    by: Literal["tpe", "random"]
    refused: tuple[Refused, ...] = ()


def next_point(
    rule: Proposals, history: Sequence[tuple[Drawn, Outcome]], misfit: Callable[[Drawn], str] = lambda drawn: ""
) -> Next | None:
    """The point of the next trial, from the sweep and the trials so far alone.

    Args:
        history: every trial so far, the random starts included, in their order.
        misfit: why a point's settings cannot become a trial; empty where they can.

    Returns:
        None where the space has no other point.
    """
    axes, index = space.axes_of(rule.space), len(history)
    names = {drawn.name for drawn, _ in history}
    met: dict[str, Refused] = {}

    def refused(drawn: Drawn) -> bool:
        why = KNOWN if drawn.name in names else misfit(drawn)
        if why:
            met.setdefault(drawn.name, Refused(drawn.point, why))
        return bool(why)

    if sum(outcome.state in ("finished", "pruned") for _, outcome in history) >= rule.starts:
        from orchestrator.execution.tpe import propose  # loads Optuna, which only a sweep that proposes needs

        told = [(drawn.picks, outcome) for drawn, outcome in history]
        found = propose(axes, rule.seed, index, told, rule.candidates, refused)
        if found is not None:
            return Next(found, "tpe", tuple(met.values()))
    found = draw_one(axes, rule.seed, index, refused)
    return None if found is None else Next(found, "random", tuple(met.values()))


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

    @property
    def stand_in(self) -> Trial:
        """What a random search would draw for the next."""
        return self._rule.stand_ins[len(self._trials) - self._rule.starts]

    def make(self) -> Trial:
        """The next trial, from what the ledger knows now; its proposal is kept before this returns.

        Raises:
            RuntimeError: the space has no other point. (As many as there are trials were drawn when it was read.)
        """
        made: dict[str, Trial] = {}
        digests = {trial.digest for trial in self._trials}
        index = len(self._trials)

        def misfit(drawn: Drawn) -> str:
            try:
                trial = proposed(self._study, self.experiment, index, drawn.point)
            except ValidationError as error:
                return message_of(error)
            made[drawn.name] = trial
            return SAME if trial.digest in digests else ""

        outcomes = [outcome_of(self._ledger.record(trial.digest)) for trial in self._trials]
        found = next_point(self._rule, list(zip(self._points, outcomes, strict=True)), misfit)
        if found is None:
            raise RuntimeError(f"{self.experiment.phase}/{self.experiment.id}: the space has no other point to propose")
        trial = made[found.drawn.name]
        news = {i: now for i, now in enumerate(outcomes) if now != self._seen.get(i, RUNNING)}
        self._rows.append(
            Proposal(index, found.drawn.point, found.drawn.picks, trial.digest, found.by, news, found.refused)
        )
        left_out = read_left_out(self._ledger.proposals(self._rule.sweep))
        _write(self._ledger, self.experiment, self._rows, left_out)
        self._trials.append(trial)
        self._points.append(found.drawn)
        self._seen |= news
        return trial


def keep_left_out(ledger: Ledger, experiment: Experiment, left_out: LeftOut) -> None:
    """Write that a plan's limits have left out a trial of a sweep, or all that it would propose."""
    _rewrite(ledger, experiment, {left_out.digest: left_out})


def forget_left_out(ledger: Ledger, experiment: Experiment, digest: str) -> None:
    """Write that the limits leave it out no more."""
    _rewrite(ledger, experiment, {digest: None})


def _rewrite(ledger: Ledger, experiment: Experiment, changes: Mapping[str, LeftOut | None]) -> None:
    assert experiment.proposals is not None
    kept = ledger.proposals(experiment.proposals.sweep)
    left_out: dict[str, LeftOut | None] = {one.digest: one for one in read_left_out(kept)}
    left_out.update(changes)
    rows = read_proposals(kept, experiment.proposals)
    _write(ledger, experiment, rows, [one for one in left_out.values() if one is not None])


def _write(ledger: Ledger, experiment: Experiment, rows: Sequence[Proposal], left_out: Sequence[LeftOut]) -> None:
    assert experiment.proposals is not None
    name = f"{experiment.phase}/{experiment.id}"
    ledger.put_proposals(experiment.proposals.sweep, as_kept(experiment.proposals, name, rows, left_out))


def seen_by(rows: Sequence[Proposal], number: int, starts: int) -> Mapping[int, Outcome]:
    """What proposal number `number` of those kept saw: the outcome of every trial before it."""
    news: dict[int, Outcome] = {}
    for row in rows[: number + 1]:
        news |= row.news
    return {index: news.get(index, RUNNING) for index in range(starts + number)}
