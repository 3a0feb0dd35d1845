"""The reference roadmap, phases 1 to 3, to its end: its own plan files, small encoders and small pages by `--set`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger

ROOT = Path(__file__).resolve().parent.parent
# One small encoder stands for HRNet-W44, another for ResNet50; 1280 px become 320, 1024 become 256.
ALL = (
    "defaults.encoder=mobilenetv3_small_050",
    "defaults.encoder_weights=none",
    "defaults.inner_channels=32",
    "defaults.output_channels=16",
    "defaults.image_size=320",
    "defaults.max_epochs=4",
    "defaults.optimizer.lr=3e-3",
    "defaults.precision=fp32",
    "defaults.resources={cpus: 1, gpus: 0}",
)
OWN = {
    "phase1": ("phase1.early_stopping.patience=1", "phase1.size1024.image_size=256", "phase1.lr.optimizer.lr=6e-3"),
    "phase2": (
        *(f"phase2.{name}.encoder=mobilenetv3_small_075" for name in ("resnet50", "resnet50_unet", "reproduction")),
        "phase2.reproduction.image_size=256",
        "phase2.reproduction.max_epochs=3",
        "phase2.reproduction.optimizer.lr=6e-3",
    ),
    "phase3": ("phase3.hrnet1024.image_size=256", "phase3.hrnet1024.optimizer.lr=6e-3"),
}


def command(home: Path, receipts: Path, *words: str) -> subprocess.CompletedProcess[str]:
    taken = {
        "ORCHESTRATOR_WORKSPACE": str(home),
        "RECEIPTS": str(receipts),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    known = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *words], cwd=home, env=known | taken, capture_output=True, text=True
    )


def run(phase: str, home: Path, receipts: Path) -> subprocess.CompletedProcess[str]:
    images = f"data.test.images={receipts / 'images'}"
    wanted = [f"{phase}.gate.otherwise=continue", images, *ALL, *OWN[phase]]
    words = [word for value in wanted for word in ("--set", value)]
    return command(home, receipts, str(ROOT / "plans" / f"{phase}.yaml"), *words)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_three_phases_run_to_their_end(tmp_path: Path, real_data: Path):
    for phase in OWN:
        done = run(phase, tmp_path, real_data / "sroie_mini")
        # 1: no gate of the reference can pass with networks of this size; 2 or a traceback would be a fault
        assert done.returncode in (0, 1), done.stdout + done.stderr
        assert "Traceback" not in done.stderr, done.stderr
    workspace = tmp_path / "reference"
    records = Ledger.open(workspace).records()
    assert len(records) == 14 and {record.state for record in records} == {"finished"}
    # from: top(phase2, 1) took the best of the four of phase 2, on five folds
    trials = [json.loads(path.read_text()) for path in workspace.glob("trials/*/trial.json")]
    assert sorted(trial["fold"] for trial in trials if trial["experiment"] == "kfold") == [0, 1, 2, 3, 4]
    for name in ("phase3-kfold_ensemble", "phase3-hybrid", "phase3-tta"):
        rows = (workspace / "ensembles" / name / "submission.csv").read_text(encoding="utf-8").splitlines()
        assert rows[0] == "filename,polygons" and len(rows) == 1 + 64
        assert_bundle_gives_its_submission(tmp_path, workspace / "ensembles" / name, real_data / "sroie_mini")
    report = (workspace / "report.md").read_text(encoding="utf-8")
    assert all(phase in report for phase in OWN)


def assert_bundle_gives_its_submission(home: Path, made: Path, receipts: Path) -> None:
    """The bundle alone, elsewhere and in a process of its own: the same file, byte for byte."""
    bundle = home / f"bundle of {made.name}"
    shutil.copytree(made, bundle, ignore=shutil.ignore_patterns("submission.csv"))
    again = home / f"{made.name}.csv"
    done = command(home, receipts, "predict", str(bundle), str(receipts / "images"), "-o", str(again))
    # 1: the file is there, and networks of this size find so few words that it is told to be implausible
    assert done.returncode in (0, 1) and "Traceback" not in done.stderr, done.stdout + done.stderr
    assert again.read_bytes() == (made / "submission.csv").read_bytes()
