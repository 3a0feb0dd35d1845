"""Two real drivers on one roadmap: one runs, the other is refused; killed, it is followed at once; no trial runs twice.

Each driver is `python -m orchestrator` with Ray, MLflow's shipper and a network that learns nothing in two epochs; the
workspace is a folder, or lies on an S3 server of which the second driver has no copy yet.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from orchestrator.ledger import Ledger, lease_of
from orchestrator.storage.leases import attempts, holder
from orchestrator.storage.mirror import mirror_of
from orchestrator.storage.s3 import S3Store
from orchestrator.storage.stores import FolderStore, Store

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


def start(home: Path, place: str, cache: str) -> subprocess.Popen[str]:
    taken = {
        **{"ORCHESTRATOR_WORKSPACE": place, "ORCHESTRATOR_CACHE": str(home / cache)},
        **{"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    }
    return subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "tiny.yaml"],
        cwd=home,
        env={key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))} | taken,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_two_drivers_run_no_trial_twice(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    (tmp_path / "tiny.yaml").write_text(PLAN)
    place = request.getfixturevalue("s3_url") if kind == "s3" else str(tmp_path / "w")

    def ledger() -> Ledger:
        return Ledger.open(mirror_of(f"{place}/tiny") if kind == "s3" else Path(place) / "tiny")

    store: Store = S3Store(f"{place}/tiny") if kind == "s3" else FolderStore(Path(place) / "tiny")
    pair = [start(tmp_path, place, "one"), start(tmp_path, place, "two")]
    until = time.monotonic() + 400
    while all(one.poll() is None for one in pair):  # whoever comes second is refused while the first works
        assert time.monotonic() < until
        time.sleep(0.2)
    (refused,) = (one for one in pair if one.poll() is not None)
    (first,) = (one for one in pair if one is not refused)
    assert refused.returncode == 2, refused.communicate()
    assert refused.stderr is not None
    assert f"one driver a workspace, and pid {first.pid} on" in refused.stderr.read()

    # Killed once its first trial has an epoch, it is followed at once: the second waits for no lease to run out.
    while not any(record.epochs for record in ledger().records()):
        assert first.poll() is None and time.monotonic() < until, first.communicate()
        time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    second = start(tmp_path, place, "three")
    out, err = second.communicate(timeout=400)
    first.communicate()
    assert second.returncode == 0, out + err

    records = ledger().records()
    assert [record.state for record in records] == ["finished"] * 2
    assert [[row.number for row in record.epochs] for record in records] == [[1, 2]] * 2
    for record in records:  # an attempt never began before the one before it was over
        spent = attempts(store, lease_of(record.digest))
        assert all(a.beat_ms <= b.started_ms for a, b in pairwise(spent))
        assert record.cost == (pytest.approx(sum(attempt.seconds for attempt in spent)), "cpu")
        assert holder(store, lease_of(record.digest)) is None
    assert sum(record.attempts for record in records) <= 3
    events = [json.loads(line) for line in (ledger().workspace / "journal.jsonl").read_text().splitlines()]
    assert [event["kind"] for event in events].count("trial_ended") == 2
