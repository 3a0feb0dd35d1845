"""What a study will cost and when it ends: expected epochs, GPU-hours, and the schedule played through on N GPUs.

Trainings only: scoring, thresholds and ensembles take minutes. The schedule is that of `run`: phase after phase; within
one by priority, each trial once its GPUs are free, and what is derived from others once all before it has ended.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from orchestrator.plan.allowance import spent_h
from orchestrator.plan.pace import Pace, Paces, Past
from orchestrator.plan.study import Experiment, Study, Trial
from orchestrator.plan.trials import base_settings


@dataclass(frozen=True, slots=True)
class Ending:
    """One cluster size.

    Attributes:
        hours: until the last training ends; None where a trial needs more GPUs than there are.
        ends: the moment, ISO 8601 with its offset.
        in_time: whether that is before the deadline; None without one.
    """

    gpus: int
    hours: float | None
    ends: str | None
    in_time: bool | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is to come.

    Attributes:
        epochs: still to train, as expected; `epochs_most` without any early stop.
        gpu_hours: of the trainings whose pace is known; `sources` counts trials by where it is known from.
        unknown: trials whose pace is not known, so that hours are lower bounds.
        spent_gpu_h: by the plan's trials so far.
        within_budget: None without a budget, or where unknown trials decide.
    """

    epochs: float
    epochs_most: int
    gpu_hours: float
    sources: dict[str, int]
    unknown: int
    spent_gpu_h: float
    budget_gpu_h: float | None
    within_budget: bool | None
    deadline: str | None
    endings: tuple[Ending, ...]
    trials: dict[str, Pace]

    def as_json(self) -> dict[str, Any]:
        plain = asdict(self)
        plain.pop("trials")
        return plain

    def __str__(self) -> str:
        at_least = "at least " if self.unknown else ""
        told = [f"{count} by {source}" for source, count in self.sources.items() if source != "unknown"]
        told += [f"{self.unknown} of unknown pace"] if self.unknown else []
        spent = f"; {self.spent_gpu_h:.2f} GPU-h spent" if self.spent_gpu_h else ""
        lines = [
            f"expected: {self.epochs:.0f} epochs ({self.epochs_most} at most), {at_least}{self.gpu_hours:.2f} GPU-h "
            f"({', '.join(told) or 'nothing left to train'}){spent}"
        ]
        if self.unknown and not self.gpu_hours:
            lines.append("  how long is not known: there are neither past epochs of such trainings nor a `cost`")
        for ending in self.endings if self.gpu_hours else ():
            size = f"{ending.gpus} GPU{'' if ending.gpus == 1 else 's'}"
            if ending.hours is None:
                lines.append(f"  {size}: a trial needs more")
                continue
            late = {True: ", before the deadline", False: ", after the deadline", None: ""}[ending.in_time]
            lines.append(f"  {size}: {at_least}{_hours(ending.hours)}, until {ending.ends}{late}")
        if self.budget_gpu_h is not None:
            verdict = {True: "holds", False: "does not hold", None: "cannot be told"}[self.within_budget]
            total = self.spent_gpu_h + self.gpu_hours
            lines.append(f"budget {self.budget_gpu_h:g} GPU-h: {verdict}, {at_least}{total:.2f} in all")
        if self.deadline is not None:
            enough = [ending.gpus for ending in self.endings if ending.in_time]
            verdict = f"holds with {min(enough)} GPUs" if enough else "holds with none of these"
            lines.append(f"deadline {self.deadline}: {verdict if not self.unknown or not enough else 'cannot be told'}")
        return "\n".join(lines)


def forecast(study: Study, pasts: Iterable[Past], gpus: Sequence[int], now: datetime) -> Forecast:
    """What is to come of a study.

    Args:
        pasts: all trainings of its ledger; none while its data is not there.
        gpus: sizes of the cluster to play the schedule through on.
        now: with its offset.
    """
    paces = Paces(pasts, study.data)
    trials: dict[str, Pace] = {}
    stages: list[list[Pace]] = []
    for phase in study.phases:
        fresh: list[Pace] = []  # a training of two experiments is trained once
        for item in map(_foreseen, phase.experiments):
            if item.kind == "derive":
                stages.append(fresh)
                fresh = paces.derived(item, *_sources(item, study))
                continue
            found = {trial.digest: pace for trial, pace in zip(item.trials, paces.of(item), strict=True)}
            fresh += [pace for digest, pace in found.items() if digest not in trials]
            trials |= found
        stages.append(fresh)
    waiting = [pace for stage in stages for pace in stage if pace.epochs]
    hours = sum(pace.gpu_hours or 0.0 for pace in waiting)
    unknown = sum(pace.seconds is None for pace in waiting)
    spent = _spent(study, paces)
    return Forecast(
        epochs=sum(pace.epochs for pace in waiting),
        epochs_most=sum(pace.most for pace in waiting),
        gpu_hours=hours,
        sources=dict(sorted(Counter(pace.source for pace in waiting).items())),
        unknown=unknown,
        spent_gpu_h=spent,
        budget_gpu_h=study.budget_gpu_h,
        within_budget=_within(study.budget_gpu_h, spent + hours, unknown),
        deadline=study.deadline,
        endings=tuple(_ending(stages, size, study, now) for size in gpus),
        trials=trials,
    )


def _foreseen(item: Experiment) -> Experiment:
    """With what a random search would draw, for the trials that a sweep is still to propose."""
    return replace(item, trials=(*item.trials, *item.unproposed)) if item.unproposed else item


def _spent(study: Study, paces: Paces) -> float:
    digests = {trial.digest for phase in study.phases for item in phase.experiments for trial in item.trials}
    return spent_h(paces.pasts.values(), {phase.id for phase in study.phases}, digests)


def _within(budget: float | None, total: float, unknown: int) -> bool | None:
    if budget is None:
        return None
    return False if total > budget else None if unknown else True


def _sources(item: Experiment, study: Study) -> tuple[list[Trial], Trial]:
    """The trials that `from: top(...)` may choose from, and the plan's defaults as one."""
    assert item.derive is not None
    scope = item.derive.source.scope
    found = [
        trial
        for phase in study.phases
        for other in phase.experiments
        if scope in ("all", phase.id, f"{phase.id}.{other.id}")
        for trial in other.trials
    ]
    base = base_settings(study.resolved)
    return found, Trial("", "", "", "", base.config(), None, base.workers, base.reserve())


def _ending(stages: Sequence[Sequence[Pace]], gpus: int, study: Study, now: datetime) -> Ending:
    total = 0.0
    for stage in stages:
        seconds = makespan([pace.on(gpus) for pace in stage], gpus, study.concurrent)
        if seconds is None:
            return Ending(gpus, None, None, None if study.deadline is None else False)
        total += seconds
    try:
        ends = now + timedelta(seconds=total)
    except OverflowError:
        return Ending(gpus, total / 3600, None, None if study.deadline is None else False)
    in_time = None if study.deadline is None else ends <= datetime.fromisoformat(study.deadline)
    return Ending(gpus, total / 3600, ends.isoformat(timespec="minutes"), in_time)


def makespan(jobs: Sequence[tuple[float, float]], gpus: float, concurrent: int | None = None) -> float | None:
    """Seconds until the last of some jobs ends, if each starts, in this order, once its GPUs are free.

    Args:
        jobs: (GPUs, seconds) of each.
        concurrent: jobs at once, at most.

    Returns:
        None where a job needs more than `gpus`.
    """
    running: list[tuple[float, float]] = []  # (end, GPUs)
    free, now_s, last_s = float(gpus), 0.0, 0.0
    for need, seconds in jobs:
        if need > gpus + 1e-6:
            return None
        while need > free + 1e-6 or (concurrent is not None and len(running) >= concurrent):
            now_s, given = heapq.heappop(running)
            free += given
        heapq.heappush(running, (now_s + seconds, need))
        free -= need
        last_s = max(last_s, now_s + seconds)
    return last_s


def _hours(hours: float) -> str:
    minutes = round(hours * 60)
    return f"{minutes // 60}:{minutes % 60:02d} h"
