"""The journal, folded into what MLflow should show: runs with parents, tags, parameters, points, files and a state.

Pure: no network, no MLflow. `apply` takes one event; `take` hands out what changed since, parents first. Equal journals
give equal boards however the events were cut into batches, which is what makes shipping repeatable.

Keys of runs: `phase/<id>`, `experiment/<phase>/<id>`, `trial/<digest>`, `submission/<number>`. A trial is one run
even where several experiments or plans use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.tracking import notes
from orchestrator.tracking.board_results import Results
from orchestrator.tracking.board_state import KINDS, State
from orchestrator.tracking.board_trials import Trials
from orchestrator.tracking.events import Event
from orchestrator.tracking.runs import Point, Run, Status, Upload, to_json

ENDED_BY: Final[Mapping[str, Status]] = {"done": "FINISHED", "gate": "FINISHED", "failed": "FAILED"}


class Board:
    """All runs of a journal, as of the last event applied."""

    def __init__(self) -> None:
        self.journal = ""
        self.note = ""
        self._state = State()
        self._apply: Mapping[str, Callable[[Event], None]] = {
            "journal": self._on_journal,
            "study": self._on_study,
            "environment": self._on_environment,
            "data": self._on_data,
            "phase": self._on_phase,
            "experiment": self._on_experiment,
            "finished": self._on_finished,
            **Trials(self._state).handlers,
            **Results(self._state).handlers,
        }

    @property
    def roadmap(self) -> str:
        """Its name; empty before the first study."""
        return self._state.roadmap

    @property
    def runs(self) -> Mapping[str, Run]:
        """By key."""
        return self._state.runs

    def apply(self, event: Event) -> None:
        """Take one event in; kinds of later versions are passed over."""
        handler = self._apply.get(event.kind)
        if handler is not None:
            handler(event)

    def take(self) -> list[tuple[Run, list[Point], list[Upload]]]:
        """Runs that changed since the last call, parents first, with their new points and files."""
        order = sorted(self._state.changed, key=lambda key: KINDS.index(key.split("/")[0]))
        taken = []
        for key in order:
            run = self._state.runs[key]
            taken.append((run, run.points, run.uploads))
            run.points, run.uploads = [], []
        self._state.changed = {}
        return taken

    def _on_journal(self, event: Event) -> None:
        self.journal = str(event.payload["id"])

    def _on_study(self, event: Event) -> None:
        plan = str(event.payload["plan"])
        self._state.roadmap = str(event.payload["roadmap"])
        self.note = notes.roadmap(event.payload)
        self._plan_file(plan, Upload(f"plan/{plan}", text=str(event.payload["source"])))
        self._plan_file(plan, Upload("plan/resolved.json", text=to_json(event.payload["resolved"])))

    def _on_environment(self, event: Event) -> None:
        plan = event.key.rpartition("@")[0]
        self._state.commits[plan] = event.payload.get("code", {})
        self._plan_file(plan, Upload("environment.json", text=to_json(event.payload)))

    def _on_data(self, event: Event) -> None:
        self._plan_file(event.key.rpartition("@")[0], Upload("data.json", text=to_json(event.payload)))

    def _plan_file(self, plan: str, upload: Upload) -> None:
        self._state.plans.setdefault(plan, {})[upload.path] = upload
        for phase in self._state.phases.values():
            if phase["plan"] == plan:
                run = self._state.runs[f"phase/{phase['phase']}"]
                run.uploads.append(upload)
                self._state.changed[run.key] = None

    def _on_phase(self, event: Event) -> None:
        phase = event.payload
        self._state.phases[phase["phase"]] = phase
        run = self._state.touch(f"phase/{phase['phase']}", phase["phase"], None, event)
        run.tags |= self._state.common("phase", phase["phase"], "", phase["plan"]) | {"what": phase["what"]}
        run.tags["mlflow.note.content"] = notes.phase(phase)
        run.uploads += self._state.plans.get(phase["plan"], {}).values()

    def _on_experiment(self, event: Event) -> None:
        experiment = event.payload
        phase, name = experiment["phase"], experiment["experiment"]
        key = f"experiment/{phase}/{name}"
        self._state.experiments[key] = experiment
        run = self._state.touch(key, name, f"phase/{phase}", event)
        kind = experiment["type"] if experiment["type"] in ("ensemble", "thresholds") else "experiment"
        plan = self._state.phases.get(phase, {}).get("plan", "")
        run.tags |= self._state.common(kind, phase, name, plan) | {
            "what": experiment["what"],
            "priority": str(experiment["priority"]),
            "trials": " ".join(experiment["trials"]),
            "mlflow.note.content": notes.experiment(experiment),
        }
        self._state.settle(key, event)

    def _on_finished(self, event: Event) -> None:
        status = ENDED_BY.get(event.payload["state"], "KILLED")
        for run in self._state.runs.values():
            if run.status == "RUNNING" and run.tags.get("plan") == event.payload["plan"]:
                # A driver that has ended trains nothing: what still runs was interrupted, whatever the whole came to.
                killed = run.tags["kind"] == "trial" or status == "KILLED"
                state = "interrupted" if killed else event.payload["state"]
                self._state.restate(run.key, "KILLED" if killed else status, state, event.time_ms)
