"""What befell a trial, and its last value beside the best, as MLflow will show them."""

from __future__ import annotations

from orchestrator.incidents import Incident
from orchestrator.plan.study import Study
from orchestrator.records import EpochRow, TrialRecord
from orchestrator.tracking.board import Board
from orchestrator.tracking.events import read_events
from orchestrator.tracking.journal import Journal, Recorder


def test_a_run_says_how_it_came_about(study: Study):
    experiment = study.phases[0].experiments[0]
    trial = experiment.trials[0]
    rows = tuple(
        EpochRow(number, {"hmean": value, "best_hmean": 0.9}, 1.0, number) for number, value in ((1, 0.9), (2, 0.7))
    )
    befell = (Incident("memory", 0, "2 at once"), Incident("retry", 1, "OSError: stale", "r"))
    record = TrialRecord(
        trial.digest, "finished", rows, rows[0].metrics, 1, 2.0, "patience", incidents=befell, ended_ms=9
    )
    assert record.last == {"hmean": 0.7, "best_hmean": 0.9}
    with Journal(study.workspace) as journal:
        recorder = Recorder(journal, study)
        recorder.study()
        recorder.phase(study.phases[0])
        recorder.experiment(experiment)
        recorder.trial_started(trial)
        for row in rows:
            recorder.epoch(trial, row)
        recorder.trial_ended(trial, record)
    board, ended = Board(), None
    for event, _ in read_events(study.workspace / "journal.jsonl"):
        board.apply(event)
        ended = event
    run = board.runs[f"trial/{trial.digest}"]
    assert run.tags["incidents"] == "2 at once; started again after epoch 1: OSError: stale"
    assert run.tags["reason"] == "patience"
    assert ended is not None and ended.payload["last"]["hmean"] == 0.7 and ended.payload["best"]["hmean"] == 0.9
    last = {name: [p.value for p in run.points if p.name == name][-1] for name in ("hmean", "best_hmean")}
    assert last == {"hmean": 0.7, "best_hmean": 0.9}  # MLflow's columns show the newest point of each
