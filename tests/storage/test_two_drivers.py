"""Two real drivers on one roadmap: one runs, the other is refused; killed, it is followed at once; no trial runs twice.

Each driver is `python -m orchestrator` with Ray, MLflow's shipper and a network that learns nothing in two epochs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger
from orchestrator.storage.leases import attempts, holder
from orchestrator.storage.stores import FolderStore

ROOT = Path(__file__).resolve().parents[2]
PLAN = """
roadmap: tiny
data: {synthetic: {train: 4, val: 2, size: 160}}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 160
  batch_size: 2
  max_epochs: 2
  resources: {cpus: 1}
concurrent: 1
phases: [{id: one, experiments: [{id: a, seeds: [0, 1]}]}]
"""


def environment(home: Path) -> Mapping[str, str]:
    taken = {"ORCHESTRATOR_WORKSPACE": str(home / "w"), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))} | taken


def start(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "tiny.yaml"],
        cwd=home,
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_drivers_run_no_trial_twice(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PLAN)
    store, workspace = FolderStore(tmp_path / "w" / "tiny"), tmp_path / "w" / "tiny"
    pair = [start(tmp_path), start(tmp_path)]
    until = time.monotonic() + 300
    while all(one.poll() is None for one in pair):  # whoever comes second is refused while the first works
        assert time.monotonic() < until
        time.sleep(0.2)
    (refused,) = (one for one in pair if one.poll() is not None)
    (first,) = (one for one in pair if one is not refused)
    assert refused.returncode == 2
    assert refused.stderr is not None
    assert f"one driver a workspace, and pid {first.pid} on" in refused.stderr.read()

    # Killed while its first trial trains, it is followed at once: the second waits for no lease to run out.
    def training() -> bool:
        return any(holder(store, f"trials/{path.name}/leases") for path in (workspace / "trials").glob("*"))

    while not training():
        assert first.poll() is None and time.monotonic() < until, first.communicate()
        time.sleep(0.1)
    first.send_signal(signal.SIGKILL)
    second = start(tmp_path)
    out, err = second.communicate(timeout=300)
    first.communicate()
    assert second.returncode == 0, out + err

    records = Ledger.open(workspace).records()
    assert [record.state for record in records] == ["finished"] * 2
    assert [[row.number for row in record.epochs] for record in records] == [[1, 2]] * 2
    for record in records:  # an attempt never began before the one before it was over
        spent = attempts(store, f"trials/{record.digest}/leases")
        assert all(a.beat_ms <= b.started_ms for a, b in pairwise(spent))
        assert record.cost == (pytest.approx(sum(attempt.seconds for attempt in spent)), "cpu")
    assert sorted(len(attempts(store, f"trials/{record.digest}/leases")) for record in records) == [1, 2]
    events = [json.loads(line) for line in (workspace / "journal.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events].count("trial_ended") == 2
