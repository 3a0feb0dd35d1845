"""A fold experiment from its plan to its report, through the command line: real trainings, Ray's workers, the journal.

The networks are barely trained, so most scores are 0; what is tested is what is made, where it is kept, and that it is
made once.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from commands import command

PLAN = """
roadmap: folded
data:
  synthetic: {train: 7, val: 2, size: 160}
  folds: {k: 2, seed: 3}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 8
  output_channels: 8
  image_size: 160
  batch_size: 2
  max_epochs: 1
phases:
  - id: one
    experiments:
      - {id: kfold, folds: all}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "folded.yaml").write_text(PLAN)
    return folder


def test_folds_are_trained_scored_out_of_fold_and_reported(home: Path) -> None:
    done = command(home, "folded.yaml")
    assert done.returncode == 0, done.stdout + done.stderr
    workspace = home / "w" / "folded"
    (kept,) = workspace.glob("data/folds-*.json")
    folds = json.loads(kept.read_text())["folds"]
    assert sorted(folds.values()) in ([0] * 3 + [1] * 4, [0] * 4 + [1] * 3)
    # The pages that each ledger entry scores are those of its trial's fold.
    scored = {}
    for path in workspace.glob("trials/*/scores/oof-*.json"):
        trial = json.loads((path.parents[1] / "trial.json").read_text())
        scored |= dict.fromkeys(json.loads(path.read_text()), trial["fold"])
    assert scored == folds
    assert "one/kfold: 2 trainings on 2 folds" in done.stdout and "on 7 training images" in done.stdout
    report = (workspace / "report.md").read_text()
    assert "## Folds" in report and "| one/kfold | 2 |" in report
    events = [json.loads(line) for line in (workspace / "journal.jsonl").read_text().splitlines()]
    (told,) = (event["metrics"] for event in events if event["kind"] == "folds")
    assert told["oof/images"] == 7 and {"oof/hmean", "folds/0_hmean", "folds/1_hmean"} < told.keys()
    with closing(sqlite3.connect(workspace / "mlflow" / "mlflow.db")) as store:
        shown = dict(store.execute("SELECT key, value FROM latest_metrics WHERE key LIKE 'oof/%'"))
    assert shown == pytest.approx({name: value for name, value in told.items() if name.startswith("oof/")})


def test_a_finished_fold_experiment_is_left_alone(home: Path) -> None:
    again = command(home, "folded.yaml")
    assert again.returncode == 0 and "nothing left to do" in again.stdout


def test_models_that_are_twins_end_the_run(home: Path) -> None:
    workspace = home / "w" / "folded"
    homes = {}
    for path in workspace.glob("trials/*/trial.json"):
        trial = json.loads(path.read_text())
        homes[trial["fold"]] = path.parent
    shutil.rmtree(homes[1] / "best")
    shutil.copytree(homes[0] / "best", homes[1] / "best")
    refused = command(home, "report", "folded.yaml")
    assert refused.returncode == 2
    assert "one/kfold-fold0 and one/kfold-fold1 came to the same weights" in refused.stderr
