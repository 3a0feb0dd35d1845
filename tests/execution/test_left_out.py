"""What of a sweep a plan's limits left out: kept, and decided alike by whoever goes on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from driving import SPACE, drive, end_of, rows_of, seven, study_of
from studies import make_sweep

from orchestrator.execution.admitting import Guard, left_out
from orchestrator.ledger import Ledger
from orchestrator.plan.allowance import LeaveOut, Start
from orchestrator.plan.points import draw
from orchestrator.plan.proposals import read_left_out
from orchestrator.plan.space import axes_of
from orchestrator.plan.study import Experiment, Proposals

LONG: dict[str, Any] = {"max_epochs": [2, 6], "optimizer.lr": SPACE["optimizer.lr"]}


def long(cost: float = 1.0) -> Experiment:
    """Nine trials of 2 or 6 epochs, four of them at random, which their author takes for dear; the first are 6, 2."""
    for seed in range(100):
        epochs = [drawn.point["max_epochs"] for drawn in draw(axes_of(LONG), 4, seed)]
        if epochs == [6, 2, 6, 2]:
            return replace(make_sweep(LONG, trials=9, starts=4, epochs=6, seed=seed), cost_gpu_h=cost)
    raise AssertionError


def kept_left_out(workspace: Path, rule: Proposals) -> Mapping[str, str]:
    return {one.digest: one.reason for one in read_left_out(Ledger.open(workspace).proposals(rule.sweep))}


def test_what_limits_left_out_stays_out_when_others_have_told_that_it_would_fit(tmp_path: Path) -> None:
    # The author says 1 h for 6 + 2 + 6 + 2 + 6 + 2 + 6 + 6 + 6 = 42 epochs, 85.7 s each; they take 1. Of .075 h, 270 s,
    # a trial of 2 epochs (171 s) may start by the author's word and one of 6 (514 s) may not - until the first epoch
    # tells better. Whoever asks again after a death knows better, and must decide as the one before did.
    rule, alone, cuts = long().proposals, tmp_path / "alone", list[Path]()
    assert rule is not None

    def keep() -> None:
        cuts.append(tmp_path / f"cut{len(cuts)}")
        shutil.copytree(alone, cuts[-1])

    drive(alone, keep, sweep=long(), budget=0.075)
    expected, gone = end_of(alone), kept_left_out(alone, rule)
    first = long().trials[0].digest
    assert list(gone) == [first] and "(6 epochs of 85.7 s, by its author's cost)" in gone[first]
    ended = [value[0] for name, value in expected.items() if not name.endswith(".json")]
    assert sorted(set(ended)) == ["finished", "queued"] and len(ended) == 9
    for cut in cuts[::6]:
        drive(cut, sweep=long(), budget=0.075)
        assert end_of(cut) == expected, cut.name
    # Asked anew it would start; other limits, or another word of the author, ask anew.
    ledger = Ledger.open(alone)
    for budget, cost, stays in ((0.075, 1.0, True), (0.08, 1.0, False), (0.075, 0.9, False)):
        study, experiment = study_of(ledger, long(cost), budget)
        guard = Guard(study, ledger, lambda line: None)
        guard.know((experiment, trial) for trial in experiment.trials)
        assert isinstance(guard.admit(first, ()), LeaveOut if stays else Start), (budget, cost)
    assert first not in kept_left_out(alone, rule)  # it may start now


def test_a_sweep_that_may_not_go_on_proposes_nothing_until_its_limits_change(tmp_path: Path) -> None:
    rule = seven().proposals
    assert rule is not None
    sweep = replace(seven(), cost_gpu_h=1.0, asha=None)
    # 7 trials of 3 epochs: 1 h / 21 = 171 s an epoch by the author; the first may start (514 s of 600), then epochs
    # take a second, so that 3 s of 3.6 are spent before the second: nothing more fits.
    drive(tmp_path / "w", sweep=sweep, budget=600 / 3600)
    assert len(Ledger.open(tmp_path / "w").records()) == 7  # once the pace is known, all fit

    small = tmp_path / "small"
    ledger = Ledger.open(small)
    known = make_sweep(SPACE, trials=7, starts=3, epochs=3)
    drive(small, sweep=replace(known, cost_gpu_h=7 * 3 / 3600), budget=9.5 / 3600)  # three of seven fit
    (reason,) = kept_left_out(small, rule).values()
    assert list(kept_left_out(small, rule)) == [""]
    assert reason.startswith("would cost 0.00 GPU-h (3 epochs of 1.0 s, by like trainings), and 0.00 of ")
    _, experiment = study_of(ledger, known, 9.5 / 3600)
    assert left_out(experiment, ledger) == [f"p/e (4 to be proposed): {reason}"]
    assert rows_of(small, rule) == ()
    drive(small, sweep=replace(known, cost_gpu_h=7 * 3 / 3600), budget=1.0)
    assert kept_left_out(small, rule) == {} and len(rows_of(small, rule)) == 4
    _, experiment = study_of(ledger, known, 1.0)
    assert left_out(experiment, ledger) == []
