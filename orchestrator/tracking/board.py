"""The journal, folded into what MLflow should show: runs with parents, tags, parameters, points, files and a state.

Pure: no network, no MLflow. `apply` takes one event; `take` hands out what changed since, parents first. Equal journals
give equal boards however the events were cut into batches, which is what makes shipping repeatable.

Keys of runs: `phase/<id>`, `experiment/<phase>/<id>`, `trial/<digest>`, `submission/<number>`. A trial is one run
even where several experiments or plans use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.tracking import notes
from orchestrator.tracking.events import Event
from orchestrator.tracking.runs import SCORES, Point, Run, Status, Upload, best_points, flat, points, to_json

KINDS: Final = ("phase", "experiment", "trial", "submission")  # of keys, parents first
STATUS: Final[Mapping[str, Status]] = {"finished": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
KNOBS: Final = ("thresh", "box_thresh", "unclip_ratio", "shrink_ratio")  # what a result's curves run over
ENDED_BY: Final[Mapping[str, Status]] = {"done": "FINISHED", "gate": "FINISHED", "failed": "FAILED"}


@dataclass(slots=True)
class _Trial:
    payload: Mapping[str, Any]
    state: str = "running"
    best: Mapping[str, float] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)  # metrics that its epochs report


class Board:
    """All runs of a journal, as of the last event applied."""

    def __init__(self) -> None:
        self.journal = ""
        self.roadmap = ""
        self.note = ""
        self.runs: dict[str, Run] = {}
        self._changed: dict[str, None] = {}
        self._plans: dict[str, dict[str, Upload]] = {}
        self._commits: dict[str, Mapping[str, Any]] = {}
        self._phases: dict[str, Mapping[str, Any]] = {}
        self._experiments: dict[str, Mapping[str, Any]] = {}
        self._trials: dict[str, _Trial] = {}
        self._results: dict[str, Mapping[str, float]] = {}  # scores of ensembles, by experiment run key
        self._told: dict[str, tuple[float | None, ...]] = {}  # the last best score shown, by run key
        self._apply: Mapping[str, Callable[[Event], None]] = {
            "journal": self._on_journal,
            "study": self._on_study,
            "environment": self._on_environment,
            "data": self._on_data,
            "phase": self._on_phase,
            "experiment": self._on_experiment,
            "trial_started": self._on_trial_started,
            "epoch": self._on_epoch,
            "trial_ended": self._on_trial_ended,
            "pictures": self._on_pictures,
            "ensemble": self._on_ensemble,
            "folds": self._on_folds,
            "decision": self._on_decision,
            "submission": self._on_submission,
            "finished": self._on_finished,
        }

    def apply(self, event: Event) -> None:
        """Take one event in; kinds of later versions are passed over."""
        handler = self._apply.get(event.kind)
        if handler is not None:
            handler(event)

    def take(self) -> list[tuple[Run, list[Point], list[Upload]]]:
        """Runs that changed since the last call, parents first, with their new points and files."""
        order = sorted(self._changed, key=lambda key: KINDS.index(key.split("/")[0]))
        taken = []
        for key in order:
            run = self.runs[key]
            taken.append((run, run.points, run.uploads))
            run.points, run.uploads = [], []
        self._changed = {}
        return taken

    def _touch(self, key: str, name: str, parent: str | None, event: Event) -> Run:
        run = self.runs.get(key)
        if run is None:
            run = self.runs[key] = Run(key, name, parent, event.time_ms, {"state": "running"})
        run.name = name
        self._changed[key] = None
        return run

    # --- the plan ---------------------------------------------------------------------------------------------------

    def _on_journal(self, event: Event) -> None:
        self.journal = str(event.payload["id"])

    def _on_study(self, event: Event) -> None:
        plan = str(event.payload["plan"])
        self.roadmap = str(event.payload["roadmap"])
        self.note = notes.roadmap(event.payload)
        self._plan_file(plan, Upload(f"plan/{plan}", text=str(event.payload["source"])))
        self._plan_file(plan, Upload("plan/resolved.json", text=to_json(event.payload["resolved"])))

    def _on_environment(self, event: Event) -> None:
        plan = event.key.rpartition("@")[0]
        self._commits[plan] = event.payload.get("code", {})
        self._plan_file(plan, Upload("environment.json", text=to_json(event.payload)))

    def _on_data(self, event: Event) -> None:
        self._plan_file(event.key.rpartition("@")[0], Upload("data.json", text=to_json(event.payload)))

    def _plan_file(self, plan: str, upload: Upload) -> None:
        self._plans.setdefault(plan, {})[upload.path] = upload
        for phase in self._phases.values():
            if phase["plan"] == plan:
                run = self.runs[f"phase/{phase['phase']}"]
                run.uploads.append(upload)
                self._changed[run.key] = None

    def _on_phase(self, event: Event) -> None:
        phase = event.payload
        self._phases[phase["phase"]] = phase
        run = self._touch(f"phase/{phase['phase']}", phase["phase"], None, event)
        run.tags |= self._common("phase", phase["phase"], "", phase["plan"]) | {"what": phase["what"]}
        run.tags["mlflow.note.content"] = notes.phase(phase)
        run.uploads += self._plans.get(phase["plan"], {}).values()

    def _on_experiment(self, event: Event) -> None:
        experiment = event.payload
        phase, name = experiment["phase"], experiment["experiment"]
        key = f"experiment/{phase}/{name}"
        self._experiments[key] = experiment
        run = self._touch(key, name, f"phase/{phase}", event)
        kind = experiment["type"] if experiment["type"] in ("ensemble", "thresholds") else "experiment"
        plan = self._phases.get(phase, {}).get("plan", "")
        run.tags |= self._common(kind, phase, name, plan) | {
            "what": experiment["what"],
            "priority": str(experiment["priority"]),
            "trials": " ".join(experiment["trials"]),
            "mlflow.note.content": notes.experiment(experiment),
        }
        self._settle(key, event)

    def _common(self, kind: str, phase: str, experiment: str, plan: str) -> dict[str, str]:
        tags = {"roadmap": self.roadmap, "kind": kind, "phase": phase, "plan": plan}
        code = self._commits.get(plan, {})
        if code.get("commit"):
            tags |= {"mlflow.source.git.commit": code["commit"], "git_dirty": str(code.get("dirty")).lower()}
        tags |= {"mlflow.source.name": plan, "mlflow.source.type": "LOCAL"}
        return tags | ({"experiment": experiment} if experiment else {})

    # --- trials -----------------------------------------------------------------------------------------------------

    def _on_trial_started(self, event: Event) -> None:
        trial = event.payload
        config, digest = trial["config"], trial["digest"]
        self._trials.setdefault(digest, _Trial(trial)).state = "running"
        key = f"experiment/{trial['phase']}/{trial['experiment']}"
        run = self._touch(f"trial/{digest}", trial["name"], key if key in self.runs else None, event)
        self._restate(run.key, "RUNNING", "running", None)
        run.tags |= self._common("trial", trial["phase"], trial["experiment"], trial["plan"]) | {
            "digest": digest,
            "fold": "none" if trial["fold"] is None else str(trial["fold"]),
            "what": trial["what"],
            "priority": str(trial["priority"]),
            "workers": str(trial["workers"]),
            "mlflow.note.content": notes.trial(trial),
            **{name: str(config[name]) for name in ("seed", "encoder", "decoder", "image_size")},
        }
        run.params |= flat(config) | {"fold": run.tags["fold"], "workers": str(trial["workers"])}
        run.dataset = (self.roadmap, trial["data"]) if trial["data"] else None
        run.uploads.append(Upload("config.json", text=to_json(config)))
        for parent in (key, f"phase/{trial['phase']}"):
            self._restate(parent, "RUNNING", "running", None)

    def _on_epoch(self, event: Event) -> None:
        epoch = event.payload
        run = self.runs.get(f"trial/{epoch['digest']}")
        if run is None:
            return
        trial = self._trials[epoch["digest"]]
        trial.names |= epoch["metrics"].keys()
        run.points += points(epoch["metrics"], epoch["epoch_time_ms"], epoch["number"])
        self._changed[run.key] = None

    def _on_trial_ended(self, event: Event) -> None:
        end = event.payload
        run = self.runs.get(f"trial/{end['digest']}")
        if run is None:
            return
        trial = self._trials[end["digest"]]
        trial.state, trial.best = end["state"], end["best"] or {}
        ended_ms = end["ended_ms"] or event.time_ms
        self._restate(run.key, STATUS.get(end["state"], "KILLED"), end["state"], ended_ms)
        run.tags |= {"reason": end["reason"], "epochs": str(end["epochs"])}
        if end.get("incidents"):  # how it came about; journals of earlier versions do not say
            run.tags["incidents"] = "; ".join(end["incidents"])
        if end["best_epoch"]:
            run.tags["best_epoch"] = str(end["best_epoch"])
            best = {f"best_{name}": trial.best[name] for name in SCORES if name in trial.best}
            # An epoch's own `best_hmean` is a curve already; a second point on it would bend it back.
            fresh = {name: value for name, value in best.items() if name not in trial.names}
            run.points += points(fresh, ended_ms, end["best_epoch"])
        run.points += points({"train_seconds": end["seconds"]}, ended_ms, end["epochs"])
        if end["state"] == "finished" and end["checkpoint"]:
            run.uploads.append(Upload("checkpoint", source=end["checkpoint"]))
        for key, experiment in self._experiments.items():
            if end["digest"] in experiment["trials"]:
                self._settle(key, event)

    def _on_pictures(self, event: Event) -> None:
        run = self.runs.get(f"trial/{event.payload['digest']}")
        if run is not None:
            folder = event.payload["folder"]
            run.uploads += [Upload(f"pictures/{name}", source=f"{folder}/{name}") for name in event.payload["files"]]
            self._changed[run.key] = None

    # --- results ----------------------------------------------------------------------------------------------------

    def _settle(self, key: str, event: Event) -> None:
        """Bring an experiment's state and best score up to date with its trials, then its phase's."""
        run, experiment = self.runs[key], self._experiments[key]
        members = [self._trials[digest] for digest in experiment["trials"] if digest in self._trials]
        ended = [trial for trial in members if trial.state in STATUS]
        # Pruned trials stopped early: their scores are of another budget and never count as a best one.
        finished = [trial for trial in ended if trial.state == "finished"]
        if finished:
            best = max(finished, key=lambda trial: trial.best.get("hmean") or 0.0)
            run.tags |= {"best_trial": best.payload["digest"], "best_trial_name": best.payload["name"]}
            self._best_so_far(run, best.best, len(finished), event)
            self._settle_phase(experiment["phase"], event)
        if ended and len(ended) == len(experiment["trials"]):
            failed = any(trial.state == "failed" for trial in ended)
            self._restate(key, "FAILED" if failed else "FINISHED", "failed" if failed else "finished", event.time_ms)

    def _settle_phase(self, phase: str, event: Event) -> None:
        run = self.runs.get(f"phase/{phase}")
        if run is None:
            return
        scores = [self._results[key] for key in self._results if key.startswith(f"experiment/{phase}/")]
        for key, experiment in self._experiments.items():
            if key.startswith(f"experiment/{phase}/"):
                trials = [self._trials[digest] for digest in experiment["trials"] if digest in self._trials]
                scores += [trial.best for trial in trials if trial.state == "finished"]
        if scores:
            self._best_so_far(run, max(scores, key=lambda s: s.get("hmean") or 0.0), len(scores), event)

    def _best_so_far(self, run: Run, best: Mapping[str, float | None], results: int, event: Event) -> None:
        """The best score of so many results: a point where either is new, so that a retry leaves no second."""
        now = (results, *(best.get(name) for name in SCORES))
        if self._told.get(run.key) != now:
            self._told[run.key] = now
            run.points += best_points(best, event.time_ms, results)
        self._changed[run.key] = None

    def _on_ensemble(self, event: Event) -> None:
        result = event.payload
        key = f"experiment/{result['phase']}/{result['experiment']}"
        run = self.runs.get(key)
        if run is None:
            return
        self._results[key] = result["metrics"]
        self._restate(key, "FINISHED", "finished", event.time_ms)
        run.tags["mlflow.note.content"] = notes.ensemble(self._experiments[key], result)
        run.params |= flat(result["settings"]) | {"members": str(len(result["members"]))}
        run.points += points(result["metrics"], event.time_ms, 0)
        run.points += best_points(result["metrics"], event.time_ms, 0)
        for row in result["curve"]:
            knob = next(name for name in KNOBS if name in row)
            curve = {f"by_{knob}/{name}": value for name, value in row.items() if name != knob}
            run.points += points(curve, event.time_ms, round(100 * row[knob]))
        run.uploads += [Upload(path, source=source) for path, source in result["files"].items()]
        summary = {name: result[name] for name in ("metrics", "settings", "members", "curve")}
        run.uploads.append(Upload("result.json", text=to_json(summary)))
        self._settle_phase(result["phase"], event)

    def _on_folds(self, event: Event) -> None:
        found = event.payload
        run = self.runs.get(f"experiment/{found['phase']}/{found['experiment']}")
        if run is None:
            return
        run.points += points(found["metrics"], event.time_ms, 0)
        run.tags["folds"] = " ".join(found["notes"].split())
        self._changed[run.key] = None

    def _on_decision(self, event: Event) -> None:
        phase = event.payload["phase"]
        run = self.runs.get(f"phase/{phase}")
        if run is None:
            return
        decision = event.payload["decision"]
        run.tags["mlflow.note.content"] = notes.phase(self._phases[phase], event.payload)
        if isinstance(decision, Mapping) and isinstance(decision.get("state"), str):
            run.tags["decision"] = decision["state"]
            answer = (decision.get("gate") or {}).get("answer")
            run.tags["answer"] = f"{answer['word']} by {answer['by']}: {answer['because']}" if answer else "none"
        run.uploads.append(Upload("decision.json", text=to_json(decision)))
        self._restate(run.key, "FINISHED", "finished", event.time_ms)

    def _on_submission(self, event: Event) -> None:
        sent = event.payload
        made, local = sent["made"] or {}, sent["local"] or {}
        run = self._touch(f"submission/{event.key}", f"submission {sent['number']} ({sent['board']})", None, event)
        model = made.get("model", {})
        run.tags |= self._common("submission", "", "", "") | {
            "board": sent["board"],
            "file_sha256": sent["file"]["sha256"],
            "model": model.get("digest", "unknown"),
            "made_by": made.get("origin", "unknown"),
            "what": sent["note"],
        }
        run.params |= flat(model.get("postprocess", {})) | {"at": sent["at"]}
        scores = {f"leaderboard_{stat}": sent[stat] for stat in SCORES}
        scores |= {f"local_{stat}": local[stat] for stat in SCORES if stat in local}
        if sent["difference"] is not None:
            scores["leaderboard_minus_local"] = sent["difference"]
        run.points += points(scores, event.time_ms, 0)
        self._restate(run.key, "FINISHED", "finished", event.time_ms)

    def _on_finished(self, event: Event) -> None:
        status = ENDED_BY.get(event.payload["state"], "KILLED")
        for run in self.runs.values():
            if run.status == "RUNNING" and run.tags.get("plan") == event.payload["plan"]:
                # A driver that has ended trains nothing: what still runs was interrupted, whatever the whole came to.
                killed = run.tags["kind"] == "trial" or status == "KILLED"
                state = "interrupted" if killed else event.payload["state"]
                self._restate(run.key, "KILLED" if killed else status, state, event.time_ms)

    def _restate(self, key: str, status: Status, state: str, end_ms: int | None) -> None:
        run = self.runs.get(key)
        if run is not None:
            run.status, run.end_ms = status, end_ms
            run.tags["state"] = state
            self._changed[key] = None
