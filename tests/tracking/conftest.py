"""A small roadmap as the driver would record it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from detector.config import Config
from detector.types import Page, Word
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.study import Asha, Effect, EnsembleSpec, Experiment, Phase, Study, Top, Trial
from orchestrator.records import EpochRow, TrialRecord
from orchestrator.tracking.journal import Journal, Recorder

START_MS = 1_760_000_000_000
SECRET = "hunter2-hunter2"


def make_trial(number: int, experiment: str, lr: float) -> Trial:
    config = Config(encoder="resnet18", max_epochs=3, seed=number, optimizer={"lr": lr})
    name = f"phase1/{experiment}" if experiment == "baseline" else f"phase1/{experiment}-{number:02d}"
    return Trial(f"{number:016x}", name, "phase1", experiment, config, settings={"optimizer.lr": lr})


@pytest.fixture
def study(tmp_path: Path) -> Study:
    baseline = Experiment("baseline", "phase1", "기준선: ResNet18 + FPN", 1, (make_trial(1, "baseline", 1e-3),))
    sweep = Experiment(
        "lr",
        "phase1",
        "learning rate <b>sweep</b>",
        2,
        tuple(make_trial(n, "lr", n * 1e-4) for n in (2, 3)),
        asha=Asha(1, 2),
        expect=(Effect("hmean", 0.001, 0.003, True),),
    )
    hybrid = Experiment(
        "hybrid", "phase1", "두 모델의 평균", 3, ensemble=EnsembleSpec(Top("all", 2), ("identity",), 2, ())
    )
    phase = Phase("phase1", "quick wins", (), (baseline, sweep, hybrid), {"hmean": 0.978})
    word = Word("0001", np.array([[1, 1], [9, 1], [9, 5], [1, 5.0]]), "영수증")
    pages = (Page("a.jpg", tmp_path / "a.jpg", (word,)),)
    return Study(
        "영수증",
        Path("plans/phase1.yaml"),
        tmp_path / "workspace",
        (phase,),
        {"hmean": 0.9755},
        Datasets(pages, pages, (), "d" * 16),
        None,
        "# 첫 번째 계획\nroadmap: 영수증\n",
        {"roadmap": "영수증", "store": f"postgresql://me:{SECRET}@db/x"},
    )


@pytest.fixture
def play() -> Callable[[Study], None]:
    """Records the whole study: two finished trials, one pruned, pictures, an ensemble, a decision."""
    return _play


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised database: MLflow's migrations cost seconds, a copy none."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "artifacts"))._dispose_engine()
    return path


@pytest.fixture
def recorded(study: Study, play: Callable[[Study], None], empty_store: Path) -> Study:
    """A workspace with a whole journal and an empty store."""
    play(study)
    folder = study.workspace / "mlflow"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store.read_bytes())
    return study


def rows(trial: Trial, count: int) -> tuple[EpochRow, ...]:
    number = int(trial.digest, 16)
    return tuple(
        EpochRow(
            epoch,
            {"hmean": 0.9 + 0.01 * epoch + 0.001 * number, "precision": 0.95, "train_loss": 1 / epoch},
            2.5,
            START_MS + 1000 * (10 * number + epoch),
            best=True,
        )
        for epoch in range(1, count + 1)
    )


def ended(trial: Trial, state: str, epochs: tuple[EpochRow, ...]) -> TrialRecord:
    best = epochs[-1] if epochs else None
    return TrialRecord(
        trial.digest,
        state,  # type: ignore[arg-type]
        epochs,
        best.metrics if best else None,
        best.number if best else None,
        sum(row.seconds for row in epochs),
        "budget",
        ended_ms=(best.time_ms if best else START_MS) + 500,
    )


class Clock:
    """1 s a call, so that journals are equal from test to test."""

    def __init__(self) -> None:
        self.now = START_MS

    def __call__(self) -> int:
        self.now += 1000
        return self.now


def _play(study: Study) -> None:
    with Journal(study.workspace, clock=Clock()) as journal:
        recorder = Recorder(journal, study)
        recorder.study()
        phase = study.phases[0]
        recorder.phase(phase)
        for experiment in phase.experiments:
            recorder.experiment(experiment)
        for trial in (trial for experiment in phase.experiments for trial in experiment.trials):
            pruned = trial.digest.endswith("3")
            recorder.trial_started(trial)
            epochs = rows(trial, 1 if pruned else 3)
            for row in epochs:
                recorder.epoch(trial, row)
            best = study.workspace / "trials" / trial.digest / "best"
            best.mkdir(parents=True, exist_ok=True)
            (best / "model.safetensors").write_bytes(b"weights" + trial.digest.encode())
            (best / "config.json").write_text("{}")
            recorder.trial_ended(trial, ended(trial, "pruned" if pruned else "finished", epochs))
        pictures = study.workspace / "trials" / f"{1:016x}" / "pictures"
        pictures.mkdir(exist_ok=True)
        cv2.imwrite(str(pictures / "a.png"), np.full((8, 8, 3), 200, np.uint8))
        recorder.pictures(f"{1:016x}", pictures)
        submission = study.workspace / "results" / "submission.csv"
        submission.parent.mkdir(exist_ok=True)
        submission.write_text("filename,polygons\na.jpg,\n")
        recorder.ensemble(
            phase.experiments[2],
            metrics={"hmean": 0.95, "best_single_hmean": 0.932},
            members=[{"digest": f"{n:016x}", "weight": 0.5} for n in (1, 2)],
            settings={"thresh": 0.25, "box_thresh": 0.4},
            curve=[{"thresh": t / 100, "hmean": 0.9 + t / 1000} for t in (20, 25, 30)],
            files={"submission.csv": submission},
            notes="평균한 확률 지도",
        )
        recorder.decision("phase1", {"state": "passed", "low": 0.001}, "**passed**: +.001 .. +.003")
        recorder.finished("done")


def without_datasets(study: Study) -> Study:
    return replace(study, datasets=None)
