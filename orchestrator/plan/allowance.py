"""Whether a trial may start: what the plan's budget and deadline have left for it. A policy; `execution` acts on it.

- Spent are all epochs that the ledger has of this plan's phases, also of settings that were edited since.
- A trial is expected to cost what is left of it at the pace of its own past epochs, else of trainings that cost the
  same, else by its author's `cost` (`plan.pace`). For the budget its epochs are those that ASHA is expected to leave
  it; for the deadline all, since one that is not stopped needs them.
- Running trials are never stopped for it; what they are still expected to cost is kept for them. A trial that would
  fit if they ended early waits for them; one that does not fit beside what is spent is left out, and a smaller one
  behind it may start.
- Of a kind whose pace nobody knows one may start while anything is left; others of that kind wait for its first epoch.

A worker's hour counts as a GPU-hour, also where it has no GPU (`pace.gpus_of`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.pace import Pace, Paces, Past, gpus_of
from orchestrator.plan.study import Experiment, Study, Trial

LEFT_OUT: Final = "left out: "  # how the ledger's reason of such a trial begins
SLACK_H: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Start:
    """It may start."""

    reason: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Not before one of those that run has told or ended."""

    reason: str


@dataclass(frozen=True, slots=True)
class LeaveOut:
    """It does not fit any more."""

    reason: str


Admission = Start | Wait | LeaveOut


def now() -> datetime:
    """This moment, with its offset."""
    return datetime.now().astimezone()


class Allowance:
    """The limits of one plan, and what of them is used.

    Args:
        study: the plan's own phases.
        pasts: all trainings of its ledger.
        clock: tells the time, for tests.
    """

    def __init__(
        self, study: Study, pasts: Iterable[Past], data: DataFacts | None, clock: Callable[[], datetime] = now
    ) -> None:
        self._budget_h, self._deadline = study.budget_gpu_h, study.deadline
        self._phases = frozenset(phase.id for phase in study.phases)
        self._digests = frozenset(t.digest for phase in study.phases for e in phase.experiments for t in e.trials)
        self._paces = Paces(pasts, data)
        self._clock = clock
        self._owners: dict[str, tuple[Experiment, Trial]] = {}

    @property
    def limited(self) -> bool:
        """Whether there is anything to keep to."""
        return self._budget_h is not None or self._deadline is not None

    def saw(self, past: Past) -> None:
        """What the ledger has of a training now."""
        self._paces.note(past)

    def spent_h(self) -> float:
        """GPU-hours of all epochs of this plan so far."""
        return spent_h(self._paces.pasts.values(), self._phases, self._digests)

    def admit(self, experiment: Experiment, trial: Trial, running: Collection[str]) -> Admission:
        """Whether a trial may start beside those that run.

        Args:
            running: digests, each admitted here before.
        """
        self._owners[trial.digest] = (experiment, trial)
        if not self.limited:
            return Start("no limit")
        pace, others = self._paces.one(experiment, trial), [one for one in running if one != trial.digest]
        found = self._in_time(pace) or self._within_budget(pace, trial, others)
        if found is None and pace.seconds is None:
            found = self._measured_first(trial, others)
        return found or Start(f"expected: {_cost(pace, trial)}")

    def _in_time(self, pace: Pace) -> Admission | None:
        if self._deadline is None:
            return None
        left_s = (datetime.fromisoformat(self._deadline) - self._clock()).total_seconds()
        if left_s <= 0:
            return LeaveOut(f"the deadline {self._deadline} has passed")
        if pace.seconds is None or not pace.epochs:
            return None
        each_s = pace.seconds / pace.epochs
        if pace.most * each_s <= left_s:
            return None
        return LeaveOut(
            f"would take {_duration(pace.most * each_s)} ({pace.most} epochs of {each_s:.1f} s, {_source(pace)}), and "
            f"{_duration(left_s)} are left before the deadline {self._deadline}"
        )

    def _within_budget(self, pace: Pace, trial: Trial, others: Collection[str]) -> Admission | None:
        if self._budget_h is None:
            return None
        spent, kept, cost = self.spent_h(), self._kept_h(others), pace.gpu_hours or 0.0
        unit = _unit(trial)
        told = f"{spent:.2f} of {self._budget_h:g} {unit} are spent"
        if spent + cost > self._budget_h + SLACK_H or (pace.seconds is None and spent >= self._budget_h):
            return LeaveOut(f"would cost {_cost(pace, trial)}, and {told}")
        if spent + kept + cost > self._budget_h + SLACK_H or (pace.seconds is None and spent + kept >= self._budget_h):
            return Wait(f"would cost {_cost(pace, trial)}; {told}, {kept:.2f} kept for {len(others)} that run")
        return None

    def _kept_h(self, running: Iterable[str]) -> float:
        """What those that run are still expected to cost, as far as that is known."""
        owned = [self._owners[digest] for digest in running if digest in self._owners]
        return sum(self._paces.one(*owner).gpu_hours or 0.0 for owner in owned)

    def _measured_first(self, trial: Trial, others: Collection[str]) -> Admission | None:
        kind = self._paces.kind(trial)
        first = [digest for digest in others if digest in self._owners and self._is(digest, kind)]
        if not first:
            return None
        return Wait(f"its pace is not known; {self._owners[first[0]][1].name} of its kind tells it after an epoch")

    def _is(self, digest: str, kind: object) -> bool:
        return self._paces.kind(self._owners[digest][1]) == kind


def spent_h(pasts: Iterable[Past], phases: Collection[str], digests: Collection[str]) -> float:
    """GPU-hours of the epochs of all trainings that belong to these phases, or are among these."""
    return sum(
        past.seconds * gpus_of(past.workers, past.gpus) / 3600
        for past in pasts
        if past.phase in phases or past.digest in digests
    )


def _cost(pace: Pace, trial: Trial) -> str:
    if pace.gpu_hours is None:
        return "nobody knows how much"
    each_s = (pace.seconds or 0.0) / pace.epochs if pace.epochs else 0.0
    devices = f" x {pace.gpus:g}" if pace.gpus != 1 else ""
    return f"{pace.gpu_hours:.2f} {_unit(trial)} ({pace.epochs:.3g} epochs of {each_s:.1f} s{devices}, {_source(pace)})"


def _source(pace: Pace) -> str:
    return {"author": "by its author's cost"}.get(pace.source, f"by {pace.source}")


def _unit(trial: Trial) -> str:
    return "device-h" if trial.resources.gpus == 0 else "GPU-h"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
