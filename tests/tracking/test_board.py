"""The fold from events to runs, without MLflow."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.plan.study import Derive, Experiment, Study, Top
from orchestrator.records import EpochRow, State, TrialRecord
from orchestrator.tracking.board import Board
from orchestrator.tracking.events import read_events
from orchestrator.tracking.journal import Journal, Recorder
from orchestrator.tracking.runs import Run, flat


def board(study: Study) -> Board:
    folded = Board()
    for event, _ in read_events(study.workspace / "journal.jsonl"):
        folded.apply(event)
    return folded


def summary(run: Run) -> tuple[object, ...]:
    return (run.key, run.status, run.end_ms, sorted(run.tags.items()), sorted(run.params.items()))


def test_however_it_is_cut_the_same_is_handed_out(study: Study, play: Callable[[Study], None]):
    play(study)
    events = [event for event, _ in read_events(study.workspace / "journal.jsonl")]

    @given(st.sets(st.integers(0, len(events))))
    def check(cuts: set[int]) -> None:
        whole, parts = Board(), Board()
        points: dict[str, list[object]] = {}
        for place, event in enumerate(events):
            whole.apply(event)
            parts.apply(event)
            if place in cuts or place == len(events) - 1:
                for run, new, _ in parts.take():
                    points.setdefault(run.key, []).extend(new)
        assert [summary(run) for run in parts.runs.values()] == [summary(run) for run in whole.runs.values()]
        assert points == {run.key: new for run, new, _ in whole.take() if new}

    check()


def test_parents_come_before_their_children(study: Study, play: Callable[[Study], None]):
    play(study)
    taken = [run for run, _, _ in board(study).take()]
    for place, run in enumerate(taken):
        assert run.parent is None or run.parent in {earlier.key for earlier in taken[:place]}


def test_an_interrupted_trial_goes_on_in_the_same_run(study: Study):
    experiment = study.phases[0].experiments[0]
    trial = experiment.trials[0]

    def row(number: int) -> EpochRow:
        return EpochRow(number, {"hmean": 0.9, "loss": math.nan}, 1.0, number)

    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, study)
        recorder.study()
        recorder.phase(study.phases[0])
        recorder.experiment(experiment)
        recorder.trial_started(trial)
        recorder.epoch(trial, row(1))
        recorder.finished("interrupted")
    stopped = board(study)
    keys = (f"trial/{trial.digest}", "experiment/phase1/baseline", "phase/phase1")
    assert [(stopped.runs[key].status, stopped.runs[key].tags["state"]) for key in keys] == [
        ("KILLED", "interrupted")
    ] * 3
    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, study)
        recorder.study()
        recorder.trial_started(trial)
        for number in (1, 2):  # execution tells earlier epochs again
            recorder.epoch(trial, row(number))
        again = board(study)
        assert [again.runs[key].status for key in keys] == ["RUNNING"] * 3
        record = TrialRecord(trial.digest, "finished", (row(1), row(2)), {"hmean": 0.9}, 1, 2.0, "budget")
        recorder.trial_ended(trial, record)
        recorder.finished("done")
    done = board(study)
    assert [done.runs[key].status for key in keys] == ["FINISHED"] * 3
    assert [(p.step, p.value) for p in done.runs[keys[0]].points if p.name == "hmean"] == [(1, 0.9), (2, 0.9)]
    assert all(math.isnan(p.value) for p in done.runs[keys[0]].points if p.name == "loss")


def test_a_trial_that_fails_and_is_retried_leaves_no_second_point(study: Study):
    """The best scores of experiment and phase are those of a run in which nothing failed."""
    first, second = study.phases[0].experiments[0], study.phases[0].experiments[1]

    def record(digest: str, state: State, attempts: int) -> TrialRecord:
        best = 1 if state == "finished" else None
        return TrialRecord(
            digest, state, (EpochRow(1, {"hmean": 0.9}, 1.0, 1),), {"hmean": 0.9}, best, 2.0, "", attempts=attempts
        )

    def curves(fails: bool) -> dict[str, list[tuple[int, float]]]:
        path = study.workspace / f"fails-{fails}"
        with Journal(path) as journal:
            recorder = Recorder(journal, replace(study, workspace=path))
            recorder.study()
            recorder.phase(study.phases[0])
            for experiment in (first, second):
                recorder.experiment(experiment)
            for trial in (*first.trials, *second.trials):
                if fails:
                    recorder.trial_started(trial)
                    recorder.trial_ended(trial, record(trial.digest, "failed", 1))
                recorder.trial_started(trial)
                recorder.trial_ended(trial, record(trial.digest, "finished", 2 if fails else 1))
        folded = board(replace(study, workspace=path))
        return {
            key: [(point.step, point.value) for point in run.points if point.name == "best_hmean"]
            for key, run in folded.runs.items()
        }

    assert curves(fails=True) == curves(fails=False)
    assert curves(fails=False)["experiment/phase1/lr"] == [(1, 0.9), (2, 0.9)]


def test_running_a_finished_plan_again_changes_no_run(study: Study, play: Callable[[Study], None]):
    play(study)
    once = [summary(run) for run in board(study).runs.values()]
    play(study)
    assert [summary(run) for run in board(study).runs.values()] == once


def test_trials_of_a_derived_experiment_are_not_forgotten_on_a_second_run(study: Study):
    trials = study.phases[0].experiments[1].trials
    derived = Experiment("folds", "phase1", "folds", 4, derive=Derive(Top("phase1", 1), (0, 1), (0,), {}))
    for _ in range(2):
        with Journal(study.workspace) as journal:
            recorder = Recorder(journal, study)
            recorder.study()
            recorder.phase(study.phases[0])
            recorder.experiment(derived)
            recorder.experiment(derived, trials)
    events = [event for event, _ in read_events(study.workspace / "journal.jsonl") if event.kind == "experiment"]
    assert [len(event.payload["trials"]) for event in events] == [0, 2]


def test_a_trial_of_two_experiments_is_one_run(study: Study, play: Callable[[Study], None]):
    """Another plan of the roadmap uses the same digest: it refers to the run, and shows its score."""
    play(study)
    phase = study.phases[0]
    twin = replace(phase.experiments[0], id="again", phase="phase9")
    other = replace(study, phases=(replace(phase, id="phase9", experiments=(twin,)),))
    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, other)
        recorder.study()
        recorder.phase(other.phases[0])
        recorder.experiment(twin)
    folded = board(study)
    run = folded.runs["experiment/phase9/again"]
    assert sum(key.startswith("trial/") for key in folded.runs) == 3
    assert run.status == "FINISHED"
    assert run.tags["trials"] == f"{1:016x}"
    assert [p.value for p in run.points if p.name == "best_hmean"] == [0.931]


def test_parameters_are_flat_text():
    nested = {"optimizer": {"lr": 1e-3, "betas": [0.9, 0.999]}, "name": "이름", "fold": None}
    assert flat(nested) == {
        "optimizer.lr": "0.001",
        "optimizer.betas": "[0.9, 0.999]",
        "name": "이름",
        "fold": "null",
    }


def test_folds_are_points_and_a_sentence_of_their_experiment(study: Study):
    experiment = study.phases[0].experiments[0]
    with Journal(study.workspace) as journal:
        record = Recorder(journal, study)
        record.study()
        record.phase(study.phases[0])
        record.experiment(experiment)
        for hmean in (0.9, 0.9, 0.91):  # told again unchanged it is one event
            record.folds(experiment, {"folds/0_hmean": 0.88, "oof/hmean": hmean}, f"out-of-fold H {hmean}")
    run = board(study).runs[f"experiment/{experiment.phase}/{experiment.id}"]
    assert [point.value for point in run.points if point.name == "oof/hmean"] == [0.9, 0.91]
    assert run.tags["folds"] == "out-of-fold H 0.91"
