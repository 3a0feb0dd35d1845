"""Priorities, a budget and a deadline on a real cluster, one trial at a time, with trainings that cost nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import standins
from studies import Seen, make_study, make_trial

from orchestrator.execution.admitting import Guard, left_out
from orchestrator.execution.search import search
from orchestrator.execution.training import Train
from orchestrator.ledger import Ledger
from orchestrator.plan.making import in_order
from orchestrator.plan.study import Experiment, Phase, Resources, Study, Trial

pytestmark = pytest.mark.usefixtures("two_cpus")
CPU = Resources(cpus=2, gpus=0.0)  # both CPUs of the cluster: one trial at a time


def one(seed: int, priority: int = 1, cost: float | None = None, epochs: int = 2) -> Experiment:
    trial = replace(make_trial(seed, epochs=epochs, experiment=f"e{seed}"), resources=CPU)
    return Experiment(f"e{seed}", "p", "", priority, trials=(trial,), cost_gpu_h=cost)


def study_of(
    ledger: Ledger, *experiments: Experiment, budget: float | None = None, deadline: str | None = None
) -> Study:
    phase = Phase("p", "", (), in_order(experiments), {})
    return replace(make_study(ledger), phases=(phase,), budget_gpu_h=budget, deadline=deadline)


def pairs(study: Study) -> list[tuple[Experiment, Trial]]:
    return [(item, trial) for item in study.phases[0].experiments for trial in item.trials]


def seeds(signs: Path) -> list[int]:
    path = signs / "starts"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []


def test_priority_1_runs_before_2_across_experiments(ledger: Ledger, curve: Train, signs: Path) -> None:
    # The file says 1, 2, 3, 4; the priorities 2, 1, 3, 1: so 2 and 4, then 1, then 3.
    study = study_of(ledger, one(1, 2), one(2, 1), one(3, 3), one(4, 1))
    search(pairs(study), study, ledger, Seen(), curve)
    assert seeds(signs) == [2, 4, 1, 3]


def test_a_budget_leaves_out_what_does_not_fit_and_a_larger_one_goes_on(
    ledger: Ledger, signs: Path, curve: Train
) -> None:
    # Epochs take .36 s as they report it: 2 of them on one worker are .0002 device-h, as their author says.
    hour = 3600.0
    slow = functools.partial(standins.curve, signs=signs, epoch_s=0.36)
    cost = 2 * 0.36 / hour  # .0002
    items = (one(1, 1, cost), one(2, 1, 3 * cost), one(3, 2, cost), one(4, 3, cost))
    study = study_of(ledger, *items, budget=2.5 * cost)
    told: list[str] = []
    guard = Guard(study, ledger, told.append)
    search(pairs(study), study, ledger, Seen(), slow, guard)
    # In costs: 1 (1 of 2.5), then 2 would make 4, so 3 starts behind it (2 of 2.5), and 4 would make 3.
    assert seeds(signs) == [1, 3]
    records = [ledger.record(item.trials[0].digest) for item in items]
    assert [record.state for record in records] == ["finished", "queued", "finished", "queued"]
    assert set(guard.left_out) == {items[1].trials[0].digest, items[3].trials[0].digest}
    assert records[1].reason == (
        "left out: would cost 0.00 device-h (2 epochs of 1.1 s, by its author's cost), and 0.00 of 0.0005 device-h are "
        "spent"
    )
    assert left_out(items[1], ledger) == [f"p/e2-02: {records[1].reason.removeprefix('left out: ')}"]
    assert [line.split("  ")[0] for line in told] == ["p/e2-02", "p/e4-04"]

    # Nothing fits: no cluster is asked, nothing starts.
    again = Guard(study, ledger, told.append)
    search(pairs(study), study, ledger, Seen(), slow, again)
    assert seeds(signs) == [1, 3] and len(again.left_out) == 2

    larger = replace(study, budget_gpu_h=20 * cost)
    search(pairs(larger), larger, ledger, Seen(), slow, Guard(larger, ledger, told.append))
    assert seeds(signs) == [1, 3, 2, 4]
    assert all(ledger.record(item.trials[0].digest).state == "finished" for item in items)
    assert left_out(items[1], ledger) == []


def test_nothing_starts_that_cannot_end_before_the_deadline(ledger: Ledger, curve: Train, signs: Path) -> None:
    begin = datetime.fromisoformat("2026-11-23T12:00+00:00")
    items = (one(1, 1, 0.5), one(2, 1, 2.0), one(3, 1))
    study = study_of(ledger, *items, deadline="2026-11-23T13:00+00:00")
    clock: Iterator[datetime] = iter([begin] * 3 + [begin + timedelta(hours=2)] * 99)
    guard = Guard(study, ledger, lambda line: None, clock=lambda: next(clock))
    search(pairs(study), study, ledger, Seen(), curve, guard)
    # At noon 1 (half an hour) and 3 (nobody knows) fit, 2 does not; when 1 or 3 are handed out it is 14:00.
    assert seeds(signs) == []
    assert "would take 2:00:00" in ledger.record(items[1].trials[0].digest).reason
    for item in (items[0], items[2]):
        reason = ledger.record(item.trials[0].digest).reason
        assert reason == "left out: the deadline 2026-11-23T13:00+00:00 has passed"
