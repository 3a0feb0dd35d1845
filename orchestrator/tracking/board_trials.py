"""Trials on the board: their start, their epochs, their end and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.tracking import notes
from orchestrator.tracking.board_state import STATUS, State, TrialSoFar
from orchestrator.tracking.events import Event
from orchestrator.tracking.runs import SCORES, Upload, flat, points, to_json


class Trials:
    """Takes in the events of trials."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.handlers: Mapping[str, Callable[[Event], None]] = {
            "trial_started": self._on_trial_started,
            "epoch": self._on_epoch,
            "trial_ended": self._on_trial_ended,
            "pictures": self._on_pictures,
        }

    def _on_trial_started(self, event: Event) -> None:
        trial = event.payload
        config, digest = trial["config"], trial["digest"]
        self._state.trials.setdefault(digest, TrialSoFar(trial)).state = "running"
        key = f"experiment/{trial['phase']}/{trial['experiment']}"
        run = self._state.touch(f"trial/{digest}", trial["name"], key if key in self._state.runs else None, event)
        self._state.restate(run.key, "RUNNING", "running", None)
        run.tags |= self._state.common("trial", trial["phase"], trial["experiment"], trial["plan"]) | {
            "digest": digest,
            "fold": "none" if trial["fold"] is None else str(trial["fold"]),
            "what": trial["what"],
            "priority": str(trial["priority"]),
            "workers": str(trial["workers"]),
            "mlflow.note.content": notes.trial(trial),
            **{name: str(config[name]) for name in ("seed", "encoder", "decoder", "image_size")},
        }
        run.params |= flat(config) | {"fold": run.tags["fold"], "workers": str(trial["workers"])}
        run.dataset = (self._state.roadmap, trial["data"]) if trial["data"] else None
        run.uploads.append(Upload("config.json", text=to_json(config)))
        for parent in (key, f"phase/{trial['phase']}"):
            self._state.restate(parent, "RUNNING", "running", None)

    def _on_epoch(self, event: Event) -> None:
        epoch = event.payload
        run = self._state.runs.get(f"trial/{epoch['digest']}")
        if run is None:
            return
        trial = self._state.trials[epoch["digest"]]
        trial.names |= epoch["metrics"].keys()
        run.points += points(epoch["metrics"], epoch["epoch_time_ms"], epoch["number"])
        self._state.changed[run.key] = None

    def _on_trial_ended(self, event: Event) -> None:
        end = event.payload
        run = self._state.runs.get(f"trial/{end['digest']}")
        if run is None:
            return
        trial = self._state.trials[end["digest"]]
        trial.state, trial.best = end["state"], end["best"] or {}
        ended_ms = end["ended_ms"] or event.time_ms
        self._state.restate(run.key, STATUS.get(end["state"], "KILLED"), end["state"], ended_ms)
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
        for key, experiment in self._state.experiments.items():
            if end["digest"] in experiment["trials"]:
                self._state.settle(key, event)

    def _on_pictures(self, event: Event) -> None:
        run = self._state.runs.get(f"trial/{event.payload['digest']}")
        if run is not None:
            folder = event.payload["folder"]
            run.uploads += [Upload(f"pictures/{name}", source=f"{folder}/{name}") for name in event.payload["files"]]
            self._state.changed[run.key] = None
