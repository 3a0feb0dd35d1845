"""A plain driver of sweeps that propose: one trial at a time, no cluster, a second an epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from studies import make_sweep, make_swept_study

from detector.files import read_json
from orchestrator.execution.admitting import Guard
from orchestrator.execution.asha import Sweep, past_of
from orchestrator.execution.proposing import Proposing
from orchestrator.ledger import Ledger
from orchestrator.plan.allowance import LeaveOut
from orchestrator.plan.proposals import Proposal, read_proposals, with_proposals
from orchestrator.plan.study import Asha, Experiment, Proposals, Study
from orchestrator.records import EpochRow

SPACE = {"optimizer.lr": "loguniform(1e-5, 1e-2)", "batch_size": [2, 4, 8]}


def value_at(point: dict[str, Any], epoch: int) -> float:
    """Best at lr .001 and batch size 4; slow at first."""
    distance = abs(math.log10(point["optimizer.lr"]) + 3) + abs(point["batch_size"] - 4) / 4
    return round(0.9 - 0.2 * distance + 0.01 * epoch, 6)


def seven(trials: int = 7) -> Experiment:
    """Seven trials of three epochs, four of them proposed."""
    return make_sweep(SPACE, trials=trials, starts=3, epochs=3, asha=Asha(1, 2))


def study_of(ledger: Ledger, sweep: Experiment, budget: float | None) -> tuple[Study, Experiment]:
    """As a driver finds it in the ledger."""
    study = replace(make_swept_study(ledger, sweep), budget_gpu_h=budget)
    study = with_proposals(study, ledger.proposals)
    (experiment,) = study.phases[0].experiments
    return study, experiment


def drive(
    workspace: Path,
    step: Callable[[], None] = lambda: None,
    failing: int = -1,
    sweep: Experiment | None = None,
    budget: float | None = None,
) -> None:
    """Run a sweep one trial at a time; `step` is called after each change on disk. An epoch takes a second."""
    ledger = Ledger.open(workspace)
    study, experiment = study_of(ledger, sweep or seven(), budget)
    rungs = Sweep(experiment) if experiment.asha is not None else None
    guard = Guard(study, ledger, lambda line: None)
    guard.know((experiment, trial) for trial in experiment.trials)
    for trial in experiment.trials:
        ledger.register(trial)
    past = past_of([ledger.record(trial.digest) for trial in experiment.trials])
    for digest, reason in (rungs.replay(past) if rungs else {}).items():
        if not ledger.done(digest):
            ledger.set_state(digest, "pruned", reason)
    proposing = Proposing(experiment, study, ledger)
    waiting = [trial for trial in experiment.trials if not ledger.done(trial.digest)]
    while waiting or proposing.left:
        if not waiting:
            if isinstance(guard.admit_next(proposing, ()), LeaveOut):
                break
            trial = proposing.make()
            step()
            ledger.register(trial)
            guard.know([(experiment, trial)])
            if rungs:
                rungs.add(trial)
            waiting.append(trial)
            step()
        trial = waiting.pop(0)
        if isinstance(guard.admit(trial.digest, ()), LeaveOut):
            step()
            continue
        ledger.set_state(trial.digest, "running")
        step()
        point = {"optimizer.lr": trial.config.optimizer.lr, "batch_size": trial.config.batch_size}
        for epoch in range(len(ledger.record(trial.digest).epochs) + 1, trial.config.max_epochs + 1):
            if int(trial.name[-2:]) == failing:
                ledger.set_state(trial.digest, "failed", "NaN")
                break
            value = value_at(point, epoch)
            number = int(trial.name[-2:]) * 10 + epoch
            ledger.append_epoch(trial.digest, EpochRow(epoch, {"hmean": value}, 1.0, number, best=True))
            guard.saw(ledger.record(trial.digest))
            step()
            if rungs and (reason := rungs.judge(trial.digest, epoch, value)):
                ledger.set_state(trial.digest, "pruned", reason)
                break
        else:
            ledger.set_state(trial.digest, "finished", "budget")
        guard.saw(ledger.record(trial.digest))
        step()


def end_of(workspace: Path) -> dict[str, Any]:
    """Proposals, states, reasons and epochs: all that a run leaves, but for when and how often."""
    ledger = Ledger.open(workspace)
    found: dict[str, Any] = {path.name: read_json(path) for path in sorted((workspace / "sweeps").glob("*"))}
    for record in ledger.records():
        found[record.digest] = (record.state, record.reason, record.epochs, ledger.trial(record.digest))
    return found


def rows_of(workspace: Path, rule: Proposals) -> tuple[Proposal, ...]:
    return read_proposals(Ledger.open(workspace).proposals(rule.sweep), rule)
