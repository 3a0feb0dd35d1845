"""What the parts of the board share: its runs, what is known of the plan, and how a run's state and best score move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.tracking.events import Event
from orchestrator.tracking.runs import SCORES, Run, Status, Upload, best_points

KINDS: Final = ("phase", "experiment", "trial", "submission")  # of keys, parents first
STATUS: Final[Mapping[str, Status]] = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


@dataclass(slots=True)
class TrialSoFar:
    """What the journal has of a trial up to here."""

    payload: Mapping[str, Any]
    state: str = "running"
    best: Mapping[str, float] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # metrics that its epochs report


@dataclass(slots=True)
class State:
    """All runs of a journal, as of the last event applied.

    Attributes:
        runs: by key; `changed`: keys of those that changed since they were last taken.
        commits, plans: by plan file: the code's commit, and the files that its phases show.
        phases, experiments: payloads; by id, and by the key of the run.
        trials: by digest.
        results: scores of ensembles and thresholds, by the key of their experiment's run.
        told: the last best score shown, by the key of the run.
    """

    roadmap: str = ""
    runs: dict[str, Run] = field(default_factory=dict)
    changed: dict[str, None] = field(default_factory=dict)
    plans: dict[str, dict[str, Upload]] = field(default_factory=dict)
    commits: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    phases: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    experiments: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    trials: dict[str, TrialSoFar] = field(default_factory=dict)
    results: dict[str, Mapping[str, float]] = field(default_factory=dict)
    told: dict[str, tuple[float | None, ...]] = field(default_factory=dict)

    def touch(self, key: str, name: str, parent: str | None, event: Event) -> Run:
        """The run of this key, made where there is none; it counts as changed."""
        run = self.runs.get(key)
        if run is None:
            run = self.runs[key] = Run(key, name, parent, event.time_ms, {"state": "running"})
        run.name = name
        self.changed[key] = None
        return run

    def restate(self, key: str, status: Status, state: str, end_ms: int | None) -> None:
        """A run's status as MLflow knows it, and its state as the ledger does."""
        run = self.runs.get(key)
        if run is not None:
            run.status, run.end_ms = status, end_ms
            run.tags["state"] = state
            self.changed[key] = None

    def common(self, kind: str, phase: str, experiment: str, plan: str) -> dict[str, str]:
        """Tags that all runs have."""
        tags = {"roadmap": self.roadmap, "kind": kind, "phase": phase, "plan": plan}
        code = self.commits.get(plan, {})
        if code.get("commit"):
            tags |= {"mlflow.source.git.commit": code["commit"], "git_dirty": str(code.get("dirty")).lower()}
        tags |= {"mlflow.source.name": plan, "mlflow.source.type": "LOCAL"}
        return tags | ({"experiment": experiment} if experiment else {})

    def settle(self, key: str, event: Event) -> None:
        """Bring an experiment's state and best score up to date with its trials, then its phase's."""
        run, experiment = self.runs[key], self.experiments[key]
        members = [self.trials[digest] for digest in experiment["trials"] if digest in self.trials]
        ended = [trial for trial in members if trial.state in STATUS]
        # Pruned trials stopped early: their scores are of another budget and never count as a best one.
        finished = [trial for trial in ended if trial.state == "finished"]
        if finished:
            best = max(finished, key=lambda trial: trial.best.get("hmean") or 0.0)
            run.tags |= {"best_trial": best.payload["digest"], "best_trial_name": best.payload["name"]}
            self.best_so_far(run, best.best, len(finished), event)
            self.settle_phase(experiment["phase"], event)
        if ended and len(ended) == len(experiment["trials"]):
            failed = any(trial.state == "failed" for trial in ended)
            self.restate(key, "FAILED" if failed else "FINISHED", "failed" if failed else "finished", event.time_ms)

    def settle_phase(self, phase: str, event: Event) -> None:
        """Bring a phase's best score up to date with its trials and results."""
        run = self.runs.get(f"phase/{phase}")
        if run is None:
            return
        scores = [self.results[key] for key in self.results if key.startswith(f"experiment/{phase}/")]
        for key, experiment in self.experiments.items():
            if key.startswith(f"experiment/{phase}/"):
                trials = [self.trials[digest] for digest in experiment["trials"] if digest in self.trials]
                scores += [trial.best for trial in trials if trial.state == "finished"]
        if scores:
            self.best_so_far(run, max(scores, key=lambda s: s.get("hmean") or 0.0), len(scores), event)

    def best_so_far(self, run: Run, best: Mapping[str, float | None], results: int, event: Event) -> None:
        """The best score of so many results: a point where either is new, so that a retry leaves no second."""
        now = (results, *(best.get(name) for name in SCORES))
        if self.told.get(run.key) != now:
            self.told[run.key] = now
            run.points += best_points(best, event.time_ms, results)
        self.changed[run.key] = None
