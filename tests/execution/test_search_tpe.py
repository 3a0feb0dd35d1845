"""A sweep by TPE on a real cluster, one trial at a time: left alone, with a trial's process killed, with the driver."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import standins
from studies import Seen, make_sweep, make_swept_study

from detector.files import read_json
from orchestrator.execution.search import search
from orchestrator.ledger import Ledger
from orchestrator.plan.proposals import with_proposals
from orchestrator.plan.study import Asha, Trial

HERE = Path(__file__).resolve().parent
# What a driver of its own runs, with a cluster of its own.
DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import standins
import test_search_tpe as tests
from orchestrator.execution import cluster
cluster.connect(cpus=2)
import ray
ray.cloudpickle.register_pickle_by_value(standins)
tests.drive(Path({workspace!r}), Path({signs!r}), epoch_s=0.2)
"""


def drive(workspace: Path, signs: Path, epoch_s: float = 0.0) -> Seen:
    """Six trials of three epochs, three of them proposed; a trial's curve is its `optimizer.lr` (see `standins`)."""
    space = {"optimizer.lr": "uniform(0.1, 0.9)", "batch_size": [1, 2]}
    sweep = make_sweep(space, trials=6, starts=3, epochs=3, asha=Asha(1, 2))
    ledger, seen = Ledger.open(workspace), Seen()
    with ledger.drive():
        study = with_proposals(make_swept_study(ledger, sweep, concurrent=1), ledger.proposals)
        (experiment,) = study.phases[0].experiments
        pairs: list[tuple[Any, Trial]] = [(experiment, trial) for trial in experiment.trials]
        search(pairs, study, ledger, seen, functools.partial(standins.curve, signs=signs, epoch_s=epoch_s))
    return seen


def left_by(workspace: Path) -> dict[str, Any]:
    """What must be the same whatever happened: proposals and what they saw, states with their reasons, epochs."""
    ledger = Ledger.open(workspace)
    found = {path.name: read_json(path) for path in (workspace / "sweeps").iterdir()}
    for record in ledger.records():
        epochs = [(row.number, row.metrics, row.best) for row in record.epochs]
        found[record.digest] = (record.state, record.reason, epochs, ledger.trial(record.digest))
    return found


@pytest.fixture(scope="module")
def alone(two_cpus: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Seen]:
    home = tmp_path_factory.mktemp("alone")
    seen = drive(home / "w", home)
    return left_by(home / "w"), seen


def test_all_trials_are_run_told_and_kept(alone: tuple[dict[str, Any], Seen]) -> None:
    left, seen = alone
    (kept,) = (value for name, value in left.items() if name.endswith(".json"))
    assert [(row["index"], row["by"]) for row in kept["proposals"]] == [(3, "tpe"), (4, "tpe"), (5, "tpe")]
    assert list(kept["proposals"][0]["news"]) == ["0", "1", "2"] and list(kept["proposals"][1]["news"]) == ["3"]
    records = {name: value for name, value in left.items() if not name.endswith(".json")}
    assert len(records) == 6 and {row["digest"] for row in kept["proposals"]} < set(records)
    names = [f"p/e-{number:02d}" for number in range(6)]
    assert sorted(value[3]["name"] for value in records.values()) == names
    # Told in their order, each from its start to its end; a proposed trial that lags is stopped like any other.
    assert list(dict.fromkeys(call[1] for call in seen.calls)) == names
    for value in records.values():
        state, reason, epochs, trial = value
        assert seen.of(trial["name"])[0] == ("started",) and seen.of(trial["name"])[-1] == ("ended", state)
        assert (state, len(epochs)) in (("finished", 3), ("pruned", 1), ("pruned", 2))
        assert reason == "budget" or reason.startswith("ASHA: hmean ")
    assert any(value[0] == "pruned" for value in records.values())


def test_the_death_of_a_trials_process_changes_no_proposal(alone: tuple[dict[str, Any], Seen], tmp_path: Path) -> None:
    (tmp_path / "kill-0-2").touch()
    (tmp_path / "kill-0-3").touch()
    drive(tmp_path / "w", tmp_path)
    assert not (tmp_path / "kill-0-2").exists() and not (tmp_path / "kill-0-3").exists()
    assert left_by(tmp_path / "w") == alone[0]


def test_a_killed_driver_is_followed_by_one_that_proposes_the_same(
    alone: tuple[dict[str, Any], Seen], tmp_path: Path
) -> None:
    workspace = tmp_path / "w"
    script = DRIVER.format(here=str(HERE), workspace=str(workspace), signs=str(tmp_path))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    driver = subprocess.Popen([sys.executable, "-c", script], env=environment, start_new_session=True)
    try:
        until = time.monotonic() + 300
        while len(list(workspace.glob("trials/*/epochs.jsonl"))) < 5:  # in the midst of the second that was proposed
            assert driver.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    finally:
        os.killpg(driver.pid, signal.SIGKILL)  # its cluster, so that nothing of it trains on
    assert len(Ledger.open(workspace).records()) == 5
    drive(workspace, tmp_path)
    assert left_by(workspace) == alone[0]
