"""Killing a run of a plan with -9, again and again, and what the run leaves behind in the end."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil
from machines import OPEN

from orchestrator.ledger import Ledger
from orchestrator.tracking import store

ROOT = Path(__file__).resolve().parents[2]
Victim = Literal["driver", "trial", "worker"]
# Titles that Ray gives its processes: the trial is Tune's process of it, the worker a rank of Ray Train.
TITLES: Mapping[Victim, str] = {"trial": "ray::ImplicitFunc", "worker": "ray::RayTrainWorker"}
TIMINGS = ("seconds", "_ms")
ENOUGH_S = 1500.0


PLAN = """
roadmap: tiny
concurrent: 1
data:
  synthetic: {train: 6, val: 4, test: 2, size: 192}
defaults:
  encoder: mobilenetv3_small_050
  encoder_weights: none
  inner_channels: 16
  output_channels: 16
  image_size: 192
  batch_size: 2
  max_epochs: 3
phases:
  - id: one
    experiments:
      - {id: baseline}
      - id: rates
        sweep:
          space: {optimizer.lr: "loguniform(0.002, 0.01)"}
          trials: 3
          search: {tpe: {starts: 2}}
          stop: {asha: {grace: 1, eta: 2}}
      - {id: ranks, set: {batch_size: 1, workers: 2, max_epochs: 10}}  # long enough to be met
      - {id: both, ensemble: {pool: "top(all, 2)", max_members: 2, thresh: [0.2, 0.3], box_thresh: [0.3]}}
"""


class Run:
    """One process of `python -m orchestrator PLAN`, in a session of its own.

    Args:
        cluster: of RAY_ADDRESS; without it the run starts one of its own.
    """

    def __init__(self, home: Path, plan: Path, *words: str, cluster: str = "") -> None:
        taken = {"ORCHESTRATOR_WORKSPACE": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        taken |= OPEN | {"RAY_ADDRESS": cluster} if cluster else {}
        known = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        home.mkdir(exist_ok=True)
        self._told = home / "told.txt"
        with self._told.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator", str(plan), *words],
                cwd=home,
                env=known | taken,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> int:
        return self.process.wait(timeout=ENOUGH_S)

    @property
    def told(self) -> str:
        return self._told.read_text(encoding="utf-8")

    def kill(self, victim: Victim) -> bool:
        """Kill it with -9; False where there is none just now."""
        if victim == "driver":
            self.process.kill()
            self.process.wait()
            return True
        found = [child for child in self._below() if _title(child).startswith(TITLES[victim])]
        return bool(found) and _kill(found[0])

    def _below(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _kill(process: psutil.Process) -> bool:
    try:
        process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def run_and_kill(home: Path, plan: Path, words: tuple[str, ...], victims: list[Victim], seed: int) -> list[str]:
    """Run a plan to its end, killing each of `victims` on the way at a moment drawn from `seed`.

    Returns:
        What was killed and after how many epochs of all trials together.
    """
    generator, log = random.Random(seed), list[str]()
    run = Run(home, plan, *words)
    for victim in victims:
        seen = epochs(home)
        # Workers live for one trial only: their time is that trial's, not a number of epochs.
        goal, pause_s = seen + (0 if victim == "worker" else generator.randint(0, 3)), generator.random() * 2.0
        until = time.monotonic() + ENOUGH_S
        while True:
            assert time.monotonic() < until, f"no {victim} to kill: {run.told[-3000:]}"
            if run.process.poll() is not None:
                return log  # the plan is through; what was not killed by then is not killed
            if epochs(home) >= goal:
                time.sleep(pause_s)  # anywhere within an epoch, its validation, or its writing
                if run.kill(victim):
                    break
            time.sleep(0.05)
        log.append(f"{victim} after {epochs(home)} epochs")
        if victim == "driver":
            run = Run(home, plan, *words)
    code = run.wait()
    assert code == 0, run.told[-3000:]
    return log


def epochs(home: Path) -> int:
    """How many epochs the ledger holds."""
    return sum(path.read_bytes().count(b"\n") for path in home.glob("*/trials/*/epochs.jsonl"))


def compare(alone: Path, killed: Path) -> None:
    """Both homes hold the same ledger, the same files of results and the same MLflow runs."""
    (first,), (second,) = alone.glob("*/ledger.json"), killed.glob("*/ledger.json")
    assert ledger_of(second.parent) == ledger_of(first.parent)
    results = results_of(first.parent)
    assert any(name.endswith(".safetensors") for name in results)
    assert results_of(second.parent) == results
    assert runs_of(second.parent) == runs_of(first.parent)


def ledger_of(workspace: Path) -> dict[str, Any]:
    """What the ledger holds of each trial, without times, hosts and attempts."""
    return {
        record.digest: {
            "state": record.state,
            "reason": record.reason,
            "best": record.best_epoch,
            "epochs": [(row.number, row.best, _untimed(row.metrics)) for row in record.epochs],
        }
        for record in Ledger.open(workspace).records()
    }


def _untimed(metrics: Mapping[str, float]) -> dict[str, str]:
    return {name: repr(value) for name, value in metrics.items() if not name.endswith(TIMINGS)}


def results_of(workspace: Path) -> dict[str, Any]:
    """Weights, scores and submissions, by their path: the files' own bytes, or JSON where it names folders or times."""
    found: dict[str, Any] = {}
    for pattern in ("trials/*/best/*.safetensors", "trials/*/scores/*.json", "*/*/submission.csv", "submission.csv"):
        for path in workspace.glob(pattern):
            found[str(path.relative_to(workspace))] = path.read_bytes()
    for path in workspace.glob("ensembles/*/scores.json"):
        found[str(path.relative_to(workspace))] = _timeless(json.loads(path.read_text(encoding="utf-8")))
    return found


def _timeless(value: Any) -> Any:
    """A JSON value without the times that members and views took."""
    if isinstance(value, dict):
        return {key: _timeless(inner) for key, inner in value.items() if key != "ms"}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def runs_of(workspace: Path) -> dict[str, Any]:
    """MLflow's runs by their key, each with its metrics (name, step, value) and parameters. A run made twice fails."""
    from mlflow.entities import ViewType
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=store.target(workspace, {}).uri)
    runs = client.search_runs(
        [experiment.experiment_id for experiment in client.search_experiments()], run_view_type=ViewType.ALL
    )
    keys = [run.data.tags["orchestrator.key"] for run in runs]
    assert len(set(keys)) == len(keys), f"a run was made twice: {sorted(keys)}"
    return {
        run.data.tags["orchestrator.key"]: {
            "status": run.info.status,
            "parameters": run.data.params,
            "metrics": sorted(_points(client, run)),
        }
        for run in runs
    }


def _points(client: Any, run: Any) -> Iterator[tuple[str, int, str]]:
    for name in run.data.metrics:
        if not name.endswith(TIMINGS):
            points = client.get_metric_history(run.info.run_id, name)
            yield from ((name, point.step, repr(point.value)) for point in points)
