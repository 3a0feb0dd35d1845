"""The journal in a real MLflow: whole, once, whoever is killed and whatever is down."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LedgerError
from orchestrator.plan.study import Study
from orchestrator.tracking import store
from orchestrator.tracking.events import read_events
from orchestrator.tracking.journal import Journal
from orchestrator.tracking.process import Shipper
from orchestrator.tracking.shipper import ship
from orchestrator.tracking.views import Server

Play = Callable[[Study], None]
KEYS = {
    *(f"trial/{n:016x}" for n in (1, 2, 3)),
    *(f"experiment/phase1/{name}" for name in ("baseline", "lr", "hybrid")),
    "phase/phase1",
}


@pytest.fixture(autouse=True)
def _own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def shown(uri: str, roadmap: str) -> dict[str, dict[str, Any]]:
    """All that a store holds of a roadmap, by run key, without its own random ids."""
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(roadmap)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    names = {run.info.run_id: run.data.tags["orchestrator.key"] for run in runs}
    assert len(set(names.values())) == len(runs), "a run was made twice"
    found = {}
    for run in runs:
        history = [
            (point.key, point.step, point.timestamp, str(point.value))
            for key in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, key)
        ]
        parent = names.get(run.data.tags.get("mlflow.parentRunId", ""))
        tags = {k: v for k, v in run.data.tags.items() if k not in ("mlflow.parentRunId", "mlflow.user")}
        files = _files(client, run.info.run_id, "")
        info = (run.info.status, run.info.start_time, run.info.end_time)
        found[names[run.info.run_id]] = {
            **{"name": run.info.run_name, "parent": parent, "info": info, "tags": tags, "files": sorted(files)},
            **{"params": dict(run.data.params), "history": sorted(history), "data": len(run.inputs.dataset_inputs)},
        }
    return found


def _files(client: Any, run_id: str, folder: str) -> Iterator[str]:
    for item in client.list_artifacts(run_id, folder):
        if item.is_dir:
            yield from _files(client, run_id, item.path)
        else:
            yield item.path


def local(study: Study) -> str:
    return store.target(study.workspace, {}).uri


def test_everything_is_shown_once(recorded: Study):
    status = ship(recorded.workspace)
    assert status.complete and status.error == "" and status.problems == ()
    runs = shown(local(recorded), recorded.roadmap)
    assert set(runs) == KEYS
    trial = runs[f"trial/{2:016x}"]
    assert trial["parent"] == "experiment/phase1/lr"
    assert runs["experiment/phase1/lr"]["parent"] == "phase/phase1"
    assert trial["info"][0] == "FINISHED"
    assert trial["params"]["optimizer.lr"] == "0.0002"
    assert trial["data"] == 1
    # 3 epochs x 3 metrics + best_hmean + best_precision + train_seconds
    assert len(trial["history"]) == 3 * 3 + 2 + 1
    assert ("hmean", 3, 1_760_000_023_000, "0.932") in trial["history"]
    assert {"config.json", "checkpoint/model.safetensors", "checkpoint/config.json"} == set(trial["files"])
    expected = {
        "kind": "trial",
        "phase": "phase1",
        "experiment": "lr",
        "state": "finished",
        "seed": "2",
        "fold": "none",
    }
    assert expected.items() <= trial["tags"].items()
    assert {"encoder", "decoder", "image_size", "what", "priority", "digest", "roadmap"} <= trial["tags"].keys()
    assert runs[f"trial/{3:016x}"]["info"][0] == "KILLED"
    assert runs[f"trial/{3:016x}"]["tags"]["state"] == "pruned"
    assert runs[f"trial/{1:016x}"]["files"] == [
        *("checkpoint/config.json", "checkpoint/model.safetensors", "config.json", "pictures/a.png")
    ]


def test_tables_read_well(recorded: Study):
    ship(recorded.workspace)
    runs = shown(local(recorded), recorded.roadmap)
    sweep = runs["experiment/phase1/lr"]
    # Trial 3 was pruned: only trial 2 counts, and one that finishes leaves one point.
    assert [(k, s, v) for k, s, _, v in sweep["history"] if k == "best_hmean"] == [("best_hmean", 1, "0.932")]
    assert sweep["tags"]["best_trial_name"] == "phase1/lr-02"
    assert "&lt;b&gt;" in sweep["tags"]["mlflow.note.content"] and "<b>" not in sweep["tags"]["mlflow.note.content"]
    hybrid = runs["experiment/phase1/hybrid"]
    assert hybrid["tags"]["kind"] == "ensemble"
    assert [(s, v) for k, s, _, v in hybrid["history"] if k == "by_thresh/hmean"] == [
        *((20, "0.92"), (25, "0.925"), (30, "0.93"))
    ]
    assert {"submission.csv", "result.json"} == set(hybrid["files"])
    assert "평균한 확률 지도" in hybrid["tags"]["mlflow.note.content"]
    phase = runs["phase/phase1"]
    assert {"plan/phase1.yaml", "plan/resolved.json", "environment.json", "data.json", "decision.json"} == set(
        phase["files"]
    )
    assert max(v for k, _, _, v in phase["history"] if k == "best_hmean") == "0.95"
    assert phase["tags"]["decision"] == "passed"
    assert phase["info"][0] == "FINISHED"


def test_shipping_in_pieces_and_again_equals_shipping_once(recorded: Study, monkeypatch: pytest.MonkeyPatch):
    ship(recorded.workspace)
    once = shown(local(recorded), recorded.roadmap)
    position = recorded.workspace / "mlflow" / "position.json"
    # As if the position had never been written: all is sent a second time, in batches of 3 events.
    position.unlink()
    monkeypatch.setattr("orchestrator.tracking.session.BATCH_EVENTS", 3)
    assert ship(recorded.workspace).complete
    assert shown(local(recorded), recorded.roadmap) == once


def test_a_store_that_was_emptied_is_filled_again(recorded: Study, empty_store: Path):
    ship(recorded.workspace)
    once = shown(local(recorded), recorded.roadmap)
    # The copy replaces the file under MLflow's cached engine only where that one is disposed of.
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore._engine_map.pop(local(recorded)).dispose()
    (recorded.workspace / "mlflow" / "mlflow.db").write_bytes(empty_store.read_bytes())
    with Journal(recorded.workspace) as journal:
        journal.append("note", "1", {})
    assert ship(recorded.workspace).complete
    assert shown(local(recorded), recorded.roadmap) == once


def test_a_missing_file_is_told_and_blocks_nothing(recorded: Study):
    (recorded.workspace / "results" / "submission.csv").unlink()
    status = ship(recorded.workspace)
    assert status.complete
    assert len(status.problems) == 1
    assert "hybrid" in status.problems[0] and "submission.csv" in status.problems[0]


def test_a_run_that_a_person_deleted_stays_deleted(recorded: Study):
    from mlflow.tracking import MlflowClient

    ship(recorded.workspace)
    client = MlflowClient(tracking_uri=local(recorded))
    experiment = client.get_experiment_by_name(recorded.roadmap)
    [run] = client.search_runs([experiment.experiment_id], "tags.digest = '0000000000000003'")
    client.delete_run(run.info.run_id)
    (recorded.workspace / "mlflow" / "position.json").unlink()
    assert ship(recorded.workspace).complete
    assert client.search_runs([experiment.experiment_id], "tags.digest = '0000000000000003'") == []


def test_artifacts_follow_a_workspace_that_was_moved(recorded: Study, tmp_path: Path):
    ship(recorded.workspace)
    moved = recorded.workspace.rename(tmp_path / "moved")
    store.relocate(store.target(moved, {}))
    with sqlite3.connect(moved / "mlflow" / "mlflow.db") as database:
        uris = [uri for (uri,) in database.execute("SELECT artifact_uri FROM runs")]
    assert len(uris) == len(KEYS)
    assert all(uri.startswith((moved / "mlflow" / "artifacts").as_uri()) for uri in uris)


def test_nothing_recorded_is_an_error_of_the_user(tmp_path: Path):
    with pytest.raises(LedgerError, match="nothing was recorded"):
        ship(tmp_path)
    with pytest.raises(LedgerError, match="nothing was recorded"):
        Server(tmp_path, 0)


def test_a_dead_server_costs_seconds_and_says_what_to_do(recorded: Study, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as probe:  # bound, not listening: connections are refused
        probe.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://someone:pass-word@127.0.0.1:{probe.getsockname()[1]}")
        begun = time.monotonic()
        status = ship(recorded.workspace)
    assert time.monotonic() - begun < 15
    assert not status.complete
    assert status.shipped == 0
    assert "sync" in str(status) and "refused" in str(status)
    assert "pass-word" not in str(status)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert ship(recorded.workspace).complete


def test_the_process_beside_a_driver_drains_when_closed(recorded: Study):
    with Shipper(recorded.workspace) as shipper:
        status = shipper.close(timeout=60)
    assert status.complete and status.error == ""
    assert set(shown(local(recorded), recorded.roadmap)) == KEYS


def test_it_drains_after_the_driver_was_killed(recorded: Study):
    driver = (
        "import sys, time; from pathlib import Path; from orchestrator.tracking.process import Shipper\n"
        f"print(Shipper(Path({str(recorded.workspace)!r})).start().pid, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    wait_until(lambda: not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes())
    assert store.status(recorded.workspace).complete


def test_killed_in_the_middle_and_sent_to_a_server_again(
    recorded: Study, play: Play, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A shipper killed with -9 time and again leaves the server as an undisturbed one leaves the own store."""
    ship(recorded.workspace)
    undisturbed = shown(local(recorded), recorded.roadmap)
    journal = recorded.workspace / "journal.jsonl"
    total = sum(1 for _ in read_events(journal))
    other = tmp_path / "server"
    play(replace(recorded, workspace=other, roadmap="other"))
    (other / "mlflow").mkdir()
    (other / "mlflow" / "mlflow.db").write_bytes(empty_store.read_bytes())
    with Server(other, 0) as server:
        uri = f"http://127.0.0.1:{server.port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        # One event a batch, killed after each third of the journal has arrived.
        script = (
            "from orchestrator.tracking import session, shipper\n"
            f"session.BATCH_EVENTS = 1; shipper.main([{str(recorded.workspace)!r}])"
        )
        for goal in (total // 3, 2 * total // 3):
            process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ})
            wait_until(lambda goal=goal: store.status(recorded.workspace).shipped >= goal, every=0.02)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
        assert not store.status(recorded.workspace).complete
        assert ship(recorded.workspace).complete
        again = shown(uri, recorded.roadmap)
    assert again == undisturbed


def wait_until(true: Callable[[], bool], timeout: float = 90.0, every: float = 0.1) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(every)
