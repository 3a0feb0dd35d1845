"""Results on the board: ensembles and thresholds, folds, decisions, and what a leaderboard said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from orchestrator.tracking import notes
from orchestrator.tracking.board_state import State
from orchestrator.tracking.events import Event
from orchestrator.tracking.runs import SCORES, Upload, best_points, flat, points, to_json

KNOBS: Final = ("thresh", "box_thresh", "unclip_ratio", "shrink_ratio")  # what a result's curves run over


class Results:
    """Takes in the events that come of trained models."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.handlers: Mapping[str, Callable[[Event], None]] = {
            "ensemble": self._on_ensemble,
            "folds": self._on_folds,
            "decision": self._on_decision,
            "submission": self._on_submission,
        }

    def _on_ensemble(self, event: Event) -> None:
        result = event.payload
        key = f"experiment/{result['phase']}/{result['experiment']}"
        run = self._state.runs.get(key)
        if run is None:
            return
        self._state.results[key] = result["metrics"]
        self._state.restate(key, "FINISHED", "finished", event.time_ms)
        run.tags["mlflow.note.content"] = notes.ensemble(self._state.experiments[key], result)
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
        self._state.settle_phase(result["phase"], event)

    def _on_folds(self, event: Event) -> None:
        found = event.payload
        run = self._state.runs.get(f"experiment/{found['phase']}/{found['experiment']}")
        if run is None:
            return
        run.points += points(found["metrics"], event.time_ms, 0)
        run.tags["folds"] = " ".join(found["notes"].split())
        self._state.changed[run.key] = None

    def _on_decision(self, event: Event) -> None:
        phase = event.payload["phase"]
        run = self._state.runs.get(f"phase/{phase}")
        if run is None:
            return
        decision = event.payload["decision"]
        run.tags["mlflow.note.content"] = notes.phase(self._state.phases[phase], event.payload)
        if isinstance(decision, Mapping) and isinstance(decision.get("state"), str):
            run.tags["decision"] = decision["state"]
            answer = (decision.get("gate") or {}).get("answer")
            run.tags["answer"] = f"{answer['word']} by {answer['by']}: {answer['because']}" if answer else "none"
        run.uploads.append(Upload("decision.json", text=to_json(decision)))
        self._state.restate(run.key, "FINISHED", "finished", event.time_ms)

    def _on_submission(self, event: Event) -> None:
        sent = event.payload
        made = sent["made"] or {}
        name = f"submission {sent['number']} ({sent['board']})"
        run = self._state.touch(f"submission/{event.key}", name, None, event)
        model = made.get("model", {})
        run.tags |= self._state.common("submission", "", "", "") | {
            "board": sent["board"],
            "file_sha256": sent["file"]["sha256"],
            "model": model.get("digest", "unknown"),
            "made_by": made.get("origin", "unknown"),
            "what": sent["note"],
        }
        run.params |= flat(model.get("postprocess", {})) | {"at": sent["at"]}
        scores = {f"leaderboard_{stat}": sent[stat] for stat in SCORES}
        # journals of earlier versions know of no out-of-fold score
        for short, kind, difference in (("local", "local", "difference"), ("oof", "outoffold", "difference_outoffold")):
            here = sent.get(kind) or {}
            scores |= {f"{short}_{stat}": here[stat] for stat in SCORES if stat in here}
            if sent.get(difference) is not None:
                scores[f"leaderboard_minus_{short}"] = sent[difference]
        run.points += points(scores, event.time_ms, 0)
        self._state.restate(run.key, "FINISHED", "finished", event.time_ms)
