"""Proposals of TPE: points of the space, a function of seed, number and history, kept before they are trained.

The driver of these tests is plain: one trial at a time, no cluster; test_search_tpe.py has Tune.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import make_sweep, make_swept_study, make_trial
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.files import read_json
from orchestrator.errors import LedgerError
from orchestrator.execution.asha import Sweep, past_of
from orchestrator.execution.proposing import Proposing, next_point, outcome_of, seen_by
from orchestrator.execution.tpe import propose
from orchestrator.ledger import Ledger
from orchestrator.plan.points import Drawn, draw, grid, walk
from orchestrator.plan.proposals import Outcome, Proposal, read_proposals, with_proposals
from orchestrator.plan.space import axes_of
from orchestrator.plan.study import Asha, Experiment, Proposals
from orchestrator.records import EpochRow, TrialRecord

MIXED: dict[str, Any] = {
    "decoder": ["fpn", "unet"],
    "inner_channels": {"by": "decoder", "values": {"unet": [64, 128, 256], "fpn": "128..512 step 64"}},
    "batch_size": [2, 4, 8],
    "optimizer": {
        "lr": {"values": "loguniform(1e-5, 1e-3)", "times": "batch_size"},
        "weight_decay": "uniform(0, 0.1)",
        "betas": [[0.9, 0.999], [0.8, 0.99]],
    },
}
STATES: tuple[Outcome, ...] = (Outcome("running"), Outcome("failed"))


def outcomes() -> st.SearchStrategy[Outcome]:
    value = st.floats(0, 1)
    ended = st.builds(Outcome, st.just("finished"), value) | st.builds(
        Outcome, st.just("pruned"), value, st.integers(1, 9)
    )
    return ended | st.sampled_from(STATES)


@given(st.integers(0, 2**32), st.integers(2, 12), st.data())
@settings(max_examples=15, deadline=None)
def test_a_proposal_is_a_point_of_the_space_and_depends_on_nothing_else(seed: int, known: int, data: Any) -> None:
    axes = axes_of(MIXED)
    history = [(drawn.picks, data.draw(outcomes())) for drawn in draw(axes, known, seed)]
    made, again = (propose(axes, seed, known, history, 24, lambda drawn: False) for _ in range(2))
    assert made is not None and made == again
    point = made.point
    assert list(point) == list(axes)
    assert 1e-5 <= made.picks["optimizer.lr"] <= 1e-3
    assert point["optimizer.lr"] == float(f"{made.picks['optimizer.lr'] * point['batch_size']:.6g}")
    assert 0 <= point["optimizer.weight_decay"] <= 0.1
    assert point["inner_channels"] in ((64, 128, 256) if point["decoder"] == "unet" else range(128, 513, 64))
    assert walk(axes, lambda key, name, values: made.picks[key]) == made
    back = json.loads(json.dumps({"picks": made.picks, "point": point}))
    assert Drawn(back["point"], back["picks"]) == made


def line(values: Callable[[float], Outcome], number: int = 20) -> list[tuple[dict[str, Any], Outcome]]:
    return [({"optimizer.weight_decay": x / number}, values(x / number)) for x in range(number)]


def mean_of_proposals(history: list[tuple[dict[str, Any], Outcome]]) -> float:
    axes = axes_of({"optimizer.weight_decay": "uniform(0, 1)"})
    made = [propose(axes, 0, number, history, 24, lambda drawn: False) for number in range(100, 110)]
    return sum(drawn.point["optimizer.weight_decay"] for drawn in made if drawn is not None) / len(made)


def test_proposals_go_where_values_are_high() -> None:
    assert mean_of_proposals(line(lambda x: Outcome("finished", x))) > 0.8
    assert mean_of_proposals(line(lambda x: Outcome("finished", 1 - x))) < 0.2


def test_pruned_trials_count_behind_finished_ones_and_failed_ones_not_at_all() -> None:
    # Pruned at epoch 1 on the left, however high, against trials that got to epoch 9 on the right.
    assert mean_of_proposals(line(lambda x: Outcome("pruned", 1 - x, 9 if x > 0.8 else 1))) > 0.7
    # The finished ones are on the left; a pruned one is never better than they are.
    finished = line(lambda x: Outcome("finished", 0.1) if x < 0.2 else Outcome("pruned", 0.9, 9))
    assert mean_of_proposals(finished) < 0.3
    told = line(lambda x: Outcome("finished", x))
    failed = [({"optimizer.weight_decay": 0.01}, Outcome("failed"))] * 30
    assert mean_of_proposals([*told, *failed]) == mean_of_proposals(told)


def test_proposals_keep_away_from_trials_in_flight() -> None:
    told = line(lambda x: Outcome("finished", x))
    there = [({"optimizer.weight_decay": 0.9 + x / 100}, Outcome("running")) for x in range(10)]
    assert mean_of_proposals([*told, *there]) < mean_of_proposals(told) - 0.05


def test_a_finite_space_is_proposed_to_its_last_point() -> None:
    rule = make_sweep({"decoder": ["fpn", "unet"], "batch_size": [1, 2, 3]}, trials=6, starts=2).proposals
    assert rule is not None
    history = [(drawn, Outcome("finished", 0.5)) for drawn in draw(axes_of(rule.space), 2, 0)]
    for _ in range(4):
        found = next_point(rule, history)
        assert found is not None
        history.append((found[0], Outcome("finished", 0.5)))
    assert {drawn.name for drawn, _ in history} == {drawn.name for drawn in grid(axes_of(rule.space))}
    assert next_point(rule, history) is None


def test_before_as_many_have_ended_as_start_a_proposal_is_that_of_a_random_search() -> None:
    rule = make_sweep(MIXED, trials=9, starts=4).proposals
    assert rule is not None
    drawn = draw(axes_of(MIXED), 9, 0)
    three, four = ([Outcome("finished", 0.5)] * ended + [Outcome("running")] * (6 - ended) for ended in (3, 4))
    assert next_point(rule, list(zip(drawn[:6], three, strict=True))) == (drawn[6], "random")
    found = next_point(rule, list(zip(drawn[:6], four, strict=True)))
    assert found is not None and found[1] == "tpe" and found[0] != drawn[6]


def test_what_a_sampler_is_told_of_a_record() -> None:
    rows = tuple(EpochRow(n, {"hmean": value}, 1.0, n) for n, value in ((1, 0.4), (2, 0.6), (3, 0.5)))
    record = TrialRecord("d", "finished", rows, best=rows[1].metrics, best_epoch=2)
    assert outcome_of(record) == Outcome("finished", 0.6)
    assert outcome_of(TrialRecord("d", "pruned", rows, best=rows[1].metrics)) == Outcome("pruned", 0.5, 3)
    assert outcome_of(TrialRecord("d", "failed", rows, best=rows[1].metrics)) == Outcome("failed")
    assert outcome_of(TrialRecord("d", "queued")) == outcome_of(TrialRecord("d", "running", rows)) == Outcome("running")
    lost = TrialRecord("d", "finished", (EpochRow(1, {"hmean": math.nan}, 1.0, 1),), best={"hmean": math.nan})
    assert outcome_of(lost) == Outcome("failed")


# --- cut anywhere ----------------------------------------------------------------------------------------------------


def value_at(point: dict[str, Any], epoch: int) -> float:
    """Best at lr .001 and batch size 4; slow at first."""
    distance = abs(math.log10(point["optimizer.lr"]) + 3) + abs(point["batch_size"] - 4) / 4
    return round(0.9 - 0.2 * distance + 0.01 * epoch, 6)


SPACE = {"optimizer.lr": "loguniform(1e-5, 1e-2)", "batch_size": [2, 4, 8]}


def seven(trials: int = 7) -> Experiment:
    """Seven trials of three epochs, four of them proposed."""
    return make_sweep(SPACE, trials=trials, starts=3, epochs=3, asha=Asha(1, 2))


def drive(workspace: Path, step: Callable[[], None] = lambda: None, failing: int = -1) -> None:
    """Run `seven()` one at a time; `step` is called after each change on disk."""
    ledger = Ledger.open(workspace)
    study = with_proposals(make_swept_study(ledger, seven()), ledger.proposals)
    (experiment,) = study.phases[0].experiments
    sweep = Sweep(experiment)
    for trial in experiment.trials:
        ledger.register(trial)
    due = sweep.replay(past_of([ledger.record(trial.digest) for trial in experiment.trials]))
    for digest, reason in due.items():
        if not ledger.done(digest):
            ledger.set_state(digest, "pruned", reason)
    proposing = Proposing(experiment, study, ledger)
    waiting = [trial for trial in experiment.trials if not ledger.done(trial.digest)]
    while waiting or proposing.left:
        if not waiting:
            trial = proposing.make()
            step()
            ledger.register(trial)
            sweep.add(trial)
            waiting.append(trial)
            step()
        trial = waiting.pop(0)
        ledger.set_state(trial.digest, "running")
        step()
        point = {"optimizer.lr": trial.config.optimizer.lr, "batch_size": trial.config.batch_size}
        for epoch in range(len(ledger.record(trial.digest).epochs) + 1, 4):
            if int(trial.name[-2:]) == failing:
                ledger.set_state(trial.digest, "failed", "NaN")
                break
            value = value_at(point, epoch)
            number = int(trial.name[-2:]) * 10 + epoch
            ledger.append_epoch(trial.digest, EpochRow(epoch, {"hmean": value}, 1.0, number, best=True))
            step()
            if reason := sweep.judge(trial.digest, epoch, value):
                ledger.set_state(trial.digest, "pruned", reason)
                break
        else:
            ledger.set_state(trial.digest, "finished", "budget")
        step()


def end_of(workspace: Path) -> dict[str, Any]:
    """Proposals, states, reasons and epochs: all that a run leaves, but for when and how often."""
    ledger = Ledger.open(workspace)
    found: dict[str, Any] = {path.name: read_json(path) for path in sorted((workspace / "sweeps").glob("*"))}
    for record in ledger.records():
        found[record.digest] = (record.state, record.reason, record.epochs, ledger.trial(record.digest))
    return found


def test_a_run_cut_anywhere_goes_on_as_if_undisturbed(tmp_path: Path) -> None:
    alone, cuts = tmp_path / "alone", list[Path]()

    def keep() -> None:
        cuts.append(tmp_path / f"cut{len(cuts)}")
        shutil.copytree(alone, cuts[-1])

    drive(alone, keep, failing=4)
    expected = end_of(alone)
    (kept,) = (value for name, value in expected.items() if name.endswith(".json"))
    assert [row["by"] for row in kept["proposals"]] == ["tpe"] * 4
    states = [value[0] for name, value in expected.items() if not name.endswith(".json")]
    assert set(states) == {"failed", "finished", "pruned"} and len(states) == 7
    assert len(cuts) > 25
    for cut in cuts:
        drive(cut, failing=4)
        assert end_of(cut) == expected, cut.name


def rows_of(workspace: Path, rule: Proposals) -> tuple[Proposal, ...]:
    return read_proposals(Ledger.open(workspace).proposals(rule.sweep), rule)


def test_each_proposal_follows_from_what_the_ledger_says_it_saw(tmp_path: Path) -> None:
    drive(tmp_path / "w", failing=4)
    rule = seven().proposals
    assert rule is not None
    rows = rows_of(tmp_path / "w", rule)
    points = [*draw(axes_of(SPACE), 3, 0), *(Drawn(row.point, row.picks) for row in rows)]
    for number, row in enumerate(rows):
        seen = seen_by(rows, number, rule.starts)
        assert list(seen) == list(range(row.index))
        history = [(points[index], outcome) for index, outcome in seen.items()]
        assert next_point(rule, history) == (points[row.index], row.by)
    assert seen_by(rows, 3, rule.starts)[4] == Outcome("failed")
    # news are told once: the failed trial in the row after it alone
    assert [4 in row.news for row in rows] == [False, False, True, False]


def test_more_trials_keep_those_that_were_proposed_and_fewer_take_the_first(ledger: Ledger) -> None:
    def known(trials: int) -> list[str]:
        study = with_proposals(make_swept_study(ledger, seven(trials)), ledger.proposals)
        (experiment,) = study.phases[0].experiments
        assert len(experiment.unproposed) == trials - len(experiment.trials)
        return [trial.digest for trial in experiment.trials]

    drive(ledger.workspace)
    made = known(7)
    assert len(made) == 7 and known(30) == made and known(5) == made[:5]


def test_a_file_that_holds_something_else_is_told(ledger: Ledger) -> None:
    study = make_swept_study(ledger, make_sweep(SPACE, trials=10, starts=5))
    (experiment,) = study.phases[0].experiments
    assert experiment.proposals is not None
    sweep = experiment.proposals.sweep
    Proposing(experiment, study, ledger).make()
    kept = ledger.proposals(sweep)
    wrong: list[Any] = [
        [],
        {"format": 2, "proposals": []},
        kept | {"proposals": [kept["proposals"][0] | {"index": 7}]},
    ]
    for value in wrong:
        ledger.put_proposals(sweep, value)
        with pytest.raises(LedgerError, match=f"sweeps/{sweep}.json.*remove the file to have"):
            with_proposals(study, ledger.proposals)


# --- ASHA ------------------------------------------------------------------------------------------------------------


@st.composite
def orders(draw_: st.DrawFn) -> list[tuple[int, int, float]]:
    """Epochs of ten trials in some order, each trial's own one after the other: (trial, epoch, value)."""
    turns = draw_(st.permutations([trial for trial in range(10) for _ in range(6)]))
    reached, rows = [0] * 10, []
    for trial in turns:
        reached[trial] += 1
        rows.append((trial, reached[trial], draw_(st.integers(0, 8)) / 8))
    return rows


def judged(experiment: Experiment, grown: Experiment, rows: list[tuple[int, int, float]], cut: int) -> Iterator[Any]:
    """The decisions of a driver on each epoch; one that died after `cut` epochs is followed by another.

    The first knows the trials of `experiment`; others join as they are proposed, before their first epoch. The second
    finds those in the ledger that had been proposed by then.
    """
    digests = [trial.digest for trial in grown.trials]
    sweep, known, stopped = Sweep(experiment), set(range(len(experiment.trials))), set[int]()
    past = []
    for place, (trial, epoch, value) in enumerate(rows):
        if place == cut:
            first = tuple(one for index, one in enumerate(grown.trials) if index in known)
            sweep = Sweep(replace(experiment, trials=first))
            epochs: dict[int, list[EpochRow]] = {}
            for time_ms, (number, at, height) in past:
                epochs.setdefault(number, []).append(EpochRow(at, {"hmean": height}, 1.0, time_ms))
            sweep.replay(past_of([TrialRecord(digests[n], "running", tuple(rows_)) for n, rows_ in epochs.items()]))
        if trial in stopped:
            continue
        if trial not in known:
            known.add(trial)
            sweep.add(grown.trials[trial])
        reason = sweep.judge(digests[trial], epoch, value)
        past.append((place, (trial, epoch, value)))
        if reason is not None:
            stopped.add(trial)
        yield trial, epoch, reason


@given(orders(), st.integers(1, 60), st.integers(1, 3), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_asha_decides_alike_after_any_death_with_trials_that_join(
    rows: list[tuple[int, int, float]], cut: int, grace: int, eta: int
) -> None:
    trials = tuple(make_trial(number, epochs=6) for number in range(10))
    sweep = make_sweep(SPACE, trials=10, starts=5, epochs=6, asha=Asha(grace, eta))
    experiment, grown = replace(sweep, trials=trials[:5]), replace(sweep, trials=trials)
    assert list(judged(experiment, grown, rows, cut)) == list(judged(experiment, grown, rows, -1))


def test_rungs_reach_as_far_as_the_longest_trial_that_may_come() -> None:
    space = {"max_epochs": [4, 16], "batch_size": [2, 4, 8]}
    experiment = make_sweep(space, trials=6, starts=2, asha=Asha(4, 2))
    assert experiment.proposals is not None and experiment.proposals.max_epochs == 16
    sweep = Sweep(experiment)  # rungs at 4 and 8 of 16, although both starts may end at 4
    assert experiment.asha is not None and [rung for rung, _ in sweep._rungs._brackets[0]._rungs] == [16, 8, 4]
