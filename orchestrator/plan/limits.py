"""Doubts about a plan's budget and deadline, from what its trainings are expected to take (`plan.forecast`).

A run keeps to both by itself (`plan.allowance`): what does not fit is left out. These lines say so before it costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from orchestrator.plan.advice import place
from orchestrator.plan.forecast import Ending, Forecast
from orchestrator.plan.schema import Plan
from orchestrator.plan.study import Study

SHOWN: Final = 3  # names in a line
BUDGET, DEADLINE = ("budget", "gpu_hours"), ("budget", "deadline")


def limits(plan: Plan, study: Study, coming: Forecast, now: datetime) -> Iterable[str]:
    """What of the plan will not fit its limits, each with its place in the plan.

    Args:
        now: with its offset.
    """
    if coming.budget_gpu_h is not None and coming.epochs:
        yield from (place(plan, BUDGET, message) for message in _budget(study, coming, coming.budget_gpu_h))
    if coming.deadline is not None and coming.epochs:
        yield from (place(plan, DEADLINE, message) for message in _deadline(coming, coming.deadline, now))


def _budget(study: Study, coming: Forecast, limit: float) -> Iterable[str]:
    large = _too_large(study, coming, limit)
    if large:
        yield f"{large} would cost more than the {limit:g} GPU-h of the budget: left out whatever else runs"
    at_least, total = "at least " if coming.unknown else "", coming.spent_gpu_h + coming.gpu_hours
    spent = f", {coming.spent_gpu_h:.2f} of them spent" if coming.spent_gpu_h else ""
    if coming.within_budget is False:
        yield (
            f"{at_least}{total:.2f} GPU-h are expected{spent}, the budget is {limit:g}: by priority, what does not fit "
            "is left out"
        )
    elif coming.within_budget is None:
        yield (
            f"whether {limit:g} GPU-h are enough cannot be told: of {coming.unknown} trials the pace is not known, "
            f"neither from past epochs nor from a `cost`; {total:.2f} GPU-h are expected without them{spent}"
        )


def _too_large(study: Study, coming: Forecast, limit: float) -> str:
    """Trials that alone would cost more than all of the budget."""
    names = [
        f"{trial.name} ({hours:.2f} GPU-h)"
        for phase in study.phases
        for experiment in phase.experiments
        for trial in (*experiment.trials, *experiment.unproposed)
        if trial.digest in coming.trials and (hours := coming.trials[trial.digest].gpu_hours or 0.0) > limit
    ]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _deadline(coming: Forecast, deadline: str, now: datetime) -> Iterable[str]:
    if datetime.fromisoformat(deadline) <= now:
        yield f"{deadline} has passed, so nothing starts any more"
        return
    ends = [ending for ending in coming.endings if ending.ends is not None]
    if coming.gpu_hours and ends and not any(ending.in_time for ending in ends):
        until = "at least until" if coming.unknown else "until"
        told = "; ".join(f"{until} {ending.ends} on {_gpus(ending)}" for ending in ends)
        yield f"the trainings go on {told}: what cannot end by {deadline} is left out"
    elif coming.unknown:
        yield (
            f"whether all ends by {deadline} cannot be told: of {coming.unknown} trials the pace is not known, neither "
            "from past epochs nor from a `cost`"
        )


def _gpus(ending: Ending) -> str:
    return f"{ending.gpus} GPU{'' if ending.gpus == 1 else 's'}"
