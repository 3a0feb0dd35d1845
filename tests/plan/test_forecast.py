"""What a plan will cost: epochs under ASHA, the pace of trials, the schedule played through, budget and deadline."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.__main__ import main
from orchestrator.ledger import Ledger
from orchestrator.plan.expand import expand
from orchestrator.plan.forecast import Forecast, forecast, makespan
from orchestrator.plan.loading import load
from orchestrator.plan.pace import Pace, Past, expected_ends, expected_left, rungs, survivors
from orchestrator.plan.study import Asha, Experiment, Study, Trial
from orchestrator.records import EpochRow

NOW = datetime.fromisoformat("2026-11-23T12:00+00:00")
PLAN = """\
roadmap: r
workspace: {workspace}
data: {{synthetic: {{train: 5, val: 1, seed: 1, size: 160}}, folds: {{k: 2}}}}
defaults: {{encoder: resnet18, max_epochs: 10, batch_size: 2}}
phases:
  - id: one
    experiments:
      - {{id: a}}
      - {{id: b, set: {{optimizer.lr: 1e-4, workers: 2}}, cost: 2h}}
      - {{id: c, set: {{encoder: resnet34}}, cost: 90min}}
  - id: two
    needs: [one]
    experiments:
      - {{id: d, from: "top(one.a, 1)", folds: all, cost: 1h}}
"""


def study(tmp_path: Path, *overrides: str) -> Study:
    path = tmp_path / "plan.yaml"
    path.write_text(PLAN.format(workspace=tmp_path / "w"))
    return expand(load(path, overrides))


def trials(found: Study) -> dict[str, Trial]:
    return {e.id: trial for phase in found.phases for e in phase.experiments for trial in e.trials}


def past(trial: Trial, epochs: int, seconds: float, state: str = "queued") -> Past:
    config = trial.config.model_dump(mode="json")
    place = (trial.phase, trial.experiment)
    return Past(trial.digest, *place, state, epochs, seconds, trial.workers, trial.resources.gpus, trial.fold, config)


# --- epochs ----------------------------------------------------------------------------------------------------------


def test_half_of_all_but_the_first_go_on() -> None:
    # eta 2: the first has no rival, each later one beats the median of those before it with probability 1/2.
    assert [survivors(n, 2) for n in (0, 1, 2, 5)] == [0.0, 1.0, 1.5, 3.0]
    # eta 4: 1 + (1 - 0) / 2 + (2 - 3/4) / 3
    assert survivors(3, 4) == pytest.approx(1 + 1 / 2 + 1.25 / 3)


@pytest.mark.parametrize(("trials_", "eta"), [(20, 2), (30, 3), (30, 4)])
def test_survivors_are_those_of_tune_s_rule(trials_: int, eta: int) -> None:
    random, runs, kept = np.random.default_rng(0), 100, 0
    for _ in range(runs):
        values = random.random(trials_)
        kept += 1 + sum(values[i] >= np.nanpercentile(values[:i], (1 - 1 / eta) * 100) for i in range(1, trials_))
    # Each count scatters by less than sqrt(trials) / 2, so the mean of 100 by less than sqrt(trials) / 20.
    assert survivors(trials_, eta) == pytest.approx(kept / runs, abs=4 * trials_**0.5 / 20)


def test_expected_ends_sum_to_the_expectation_and_stay_within_the_budget(tmp_path: Path) -> None:
    base = trials(study(tmp_path))["a"]
    sweep = Experiment("s", "one", "", 1, (base,) * 8, Asha(grace=2, eta=2))
    # 8 trials to epoch 2; 4.5 to 4; 1 + 3.5/2 = 2.75 to 8; 1 + 1.75/2 = 1.875 to 10.
    assert sum(expected_ends(sweep)) == pytest.approx(8 * 2 + 4.5 * 2 + 2.75 * 4 + 1.875 * 2)
    assert max(expected_ends(sweep)) == 10 and min(expected_ends(sweep)) == 2
    assert expected_ends(Experiment("s", "one", "", 1, (base,) * 3)) == [10.0] * 3
    # One that went beyond epoch 4: of 2.75 such, 1.875 train on after 8.
    assert expected_left(sweep, base, 5) == pytest.approx(3 + 2 * 1.875 / 2.75)
    assert [expected_left(sweep, base, done) for done in (8, 10)] == [2.0, 0.0]
    assert expected_left(Experiment("s", "one", "", 1, (base,)), base, 4) == 6.0
    assert rungs(Asha(3, 2), 12) == [3, 6] and rungs(Asha(5, 2), 5) == []


# --- schedule --------------------------------------------------------------------------------------------------------


def plain_makespan(jobs: list[tuple[int, int]], gpus: int, concurrent: int | None) -> int:
    """Each job at the first moment, not before the one ahead of it, at which what runs leaves it room."""
    placed: list[tuple[int, int, int]] = []
    at = 0
    for need, seconds in jobs:
        for moment in sorted({at, *(end for _, end, _ in placed if end > at)}):
            running = [held for start, end, held in placed if start <= moment < end]
            if sum(running) + need <= gpus and (concurrent is None or len(running) < concurrent):
                at = moment
                break
        placed.append((at, at + seconds, need))
    return max((end for _, end, _ in placed), default=0)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), max_size=12),
    st.integers(4, 9),
    st.none() | st.integers(1, 4),
)
def test_the_schedule_is_that_of_a_queue(jobs: list[tuple[int, int]], gpus: int, concurrent: int | None) -> None:
    assert makespan(jobs, gpus, concurrent) == plain_makespan(jobs, gpus, concurrent)


def test_a_job_that_never_fits_ends_never() -> None:
    assert makespan([(1, 1.0), (2, 1.0)], 1) is None
    assert makespan([(0.5, 3.0), (0.5, 3.0)], 1) == 3.0


# --- pace ------------------------------------------------------------------------------------------------------------


def told(tmp_path: Path, *pasts: Past, gpus: tuple[int, ...] = (1, 2, 4), sets: tuple[str, ...] = ()) -> Forecast:
    return forecast(study(tmp_path, *sets), pasts, gpus, NOW)


def test_workers_of_auto_take_turns_on_fewer_gpus_and_others_do_not_fit() -> None:
    # 4 workers for 100 s are 400 GPU-seconds: 200 s on two GPUs, 100 s on eight.
    auto = Pace(10, 10, 100.0, 4.0, "own epochs", shares=True)
    assert [auto.on(gpus) for gpus in (2, 8)] == [(2, 200.0), (4.0, 100.0)]
    assert makespan([replace(auto, shares=False).on(2)], 2) is None


def test_without_past_epochs_authors_are_believed_and_the_rest_is_unknown(tmp_path: Path) -> None:
    found = told(tmp_path)
    # a: 10 epochs, unknown; b, c: 10 each; d: two folds of 10 each.
    assert (found.epochs, found.epochs_most, found.unknown) == (50, 50, 1)
    assert found.gpu_hours == pytest.approx(2 + 1.5 + 1)
    assert found.sources == {"author": 4, "unknown": 1}
    # On 1 GPU one after the other, b's two workers on it at once. On 2 GPUs: a (0 h), b on both for 2 GPU-h / 2 = 1 h,
    # c for 1.5 h; then both folds of d at once, 0.5 h.
    assert [ending.hours for ending in found.endings] == pytest.approx([4.5, 3.0, 2.0])
    assert found.endings[1].ends == "2026-11-23T15:00+00:00"


def test_past_epochs_are_believed_before_authors(tmp_path: Path) -> None:
    of = trials(study(tmp_path))
    found = told(tmp_path, past(of["a"], 4, 40.0), past(of["c"], 10, 3600.0, "finished"))
    # a: 6 of 10 left at 10 s; d: 2 x 10 at 10 s, as its source; b has other workers, so its author: 2 h.
    assert found.gpu_hours == pytest.approx((60 + 200) / 3600 + 2)
    assert (found.epochs, found.unknown) == (6 + 10 + 20, 0)
    assert found.sources == {"author": 1, "like trainings": 2, "own epochs": 1}
    assert found.spent_gpu_h == pytest.approx((40 + 3600) / 3600)
    assert found.trials[of["c"].digest].epochs == 0


def test_epochs_on_other_pages_say_nothing(tmp_path: Path) -> None:
    of = trials(study(tmp_path))
    other = trials(study(tmp_path, "data.synthetic.seed=2", "a.seed=3"))["a"]
    assert told(tmp_path, past(other, 4, 40.0)).unknown == 1
    like = trials(study(tmp_path, "a.seed=3"))["a"]
    assert like.digest != of["a"].digest and told(tmp_path, past(like, 4, 40.0)).unknown == 0


def test_derived_trials_that_are_done_are_not_counted_again(tmp_path: Path) -> None:
    of = trials(study(tmp_path))
    done = Past("0" * 16, "two", "d", "finished", 10, 72.0, 1, None, 0, of["a"].config.model_dump(mode="json"))
    assert told(tmp_path, done).epochs == told(tmp_path).epochs - 10
    assert told(tmp_path, done).spent_gpu_h == pytest.approx(0.02)


def test_budget_and_deadline_hold_or_not_or_cannot_be_told(tmp_path: Path) -> None:
    known = past(trials(study(tmp_path))["a"], 10, 360.0, "finished")  # then 0.1 + 2 + 1.5 + 2 x 0.1 GPU-h
    late = "budget.deadline=2026-11-23T14:30+00:00"
    assert told(tmp_path, known, sets=("budget.gpu_hours=3.9",)).within_budget is True
    assert told(tmp_path, known, sets=("budget.gpu_hours=3.7",)).within_budget is False
    assert told(tmp_path, sets=("budget.gpu_hours=9",)).within_budget is None
    assert told(tmp_path, sets=("budget.gpu_hours=4",)).within_budget is False
    # 2 GPUs: 1 + 1.5 + 0.1 h, until 14:36; 4 GPUs: 1.5 + 0.1 h.
    found = told(tmp_path, known, sets=(late,))
    assert [ending.in_time for ending in found.endings] == [False, False, True]
    assert "deadline 2026-11-23T14:30+00:00: holds with 4 GPUs" in str(found)
    assert "holds with none of these" in str(told(tmp_path, known, gpus=(2,), sets=(late,)))
    assert "cannot be told" in str(told(tmp_path, sets=(late,)))


def test_the_command_tells_it_from_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = study(tmp_path)
    trial = trials(found)["a"]
    ledger = Ledger.open(found.workspace)
    ledger.register(trial)
    for number in (1, 2):
        ledger.append_epoch(trial.digest, EpochRow(number, {"hmean": 0.5}, 30.0, number))
    plan = str(tmp_path / "plan.yaml")
    assert main(["check", plan, "--json", "--gpus", "2,3"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert [ending["gpus"] for ending in out["forecast"]["endings"]] == [2, 3]
    row = next(row for row in out["trials"] if row["digest"] == trial.digest)
    # 8 epochs left at 30 s; ceil(5 pages / 2) steps.
    assert (row["expected"], row["steps"], row["gpu_hours"]) == (8, 3, pytest.approx(240 / 3600))
    assert main(["check", plan]) == 0
    text = capsys.readouterr().out
    assert "8.0 to come  3 steps  0.07 GPU-h" in text and "  1000 GPUs: " in text
    with pytest.raises(SystemExit):
        main(["check", plan, "--gpus", "0"])
    assert "numbers of GPUs such as 1,8 expected, got '0'" in capsys.readouterr().err


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path)
    parts = f"train: {{images: {tmp_path}, annotations: {tmp_path}/t.json}}, val: {{images: x, annotations: y}}"
    files = f"data={{{parts}, folds: {{k: 2}}}}"
    assert main(["check", str(tmp_path / "plan.yaml"), "--json", "--set", files, "--only", "a"]) == 0
    assert json.loads(capsys.readouterr().out)["data_missing"] == [f"{tmp_path}/t.json", "y", "x"]


def test_expectations_are_held_against_the_validation_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path)
    plan = str(tmp_path / "plan.yaml")
    # 2.802 x .03 x sqrt(2 x .3 / 100) = .0065
    sets = ["--set", "data.synthetic.val=100", "--set", "one.b.expect={hmean: +0.006}"]
    assert main(["check", plan, "--json", *sets]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert "`|effect| >= 0.0065` should hold on 100 validation images" in warning
