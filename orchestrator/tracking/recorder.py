"""What a driver tells the journal, in typed calls; each may be repeated, only what is new is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.plan.study import Experiment, Phase, Study, Trial
from orchestrator.records import EpochRow, TrialRecord
from orchestrator.tracking.events import plain
from orchestrator.tracking.facts import code_version, data_facts, environment, scrub

if TYPE_CHECKING:
    from orchestrator.tracking.journal import Journal

IMAGES = frozenset({".png", ".jpg", ".jpeg"})


class Recorder:
    """The journal's face towards the driver; it is the `Events` of execution, too.

    Args:
        journal: open for writing.
        study: the plan that runs.
    """

    def __init__(self, journal: Journal, study: Study) -> None:
        self._journal = journal
        self._study = study
        self._attempt = journal.count("attempt") + 1
        self._what = {(e.phase, e.id): e for phase in study.phases for e in phase.experiments}

    # --- the plan ---------------------------------------------------------------------------------------------------

    def study(self) -> None:
        """The plan's text and meaning, the machine, the code's version and the data; call it first, once a run."""
        study = self._study
        name = study.plan_path.name
        self._changed(
            "study",
            name,
            {
                "roadmap": study.roadmap,
                "plan": name,
                "source": study.source,
                "resolved": study.resolved,
                "baseline": study.baseline,
                "phases": [phase.id for phase in study.phases],
            },
        )
        self._changed("environment", name, environment() | {"code": code_version()})
        if study.datasets is not None:
            self._changed("data", name, data_facts(study.datasets))
        self._append("attempt", str(self._attempt), {"plan": name, "code": code_version()})

    def phase(self, phase: Phase) -> None:
        """A phase begins, or its text changed."""
        self._changed(
            "phase",
            phase.id,
            {
                "phase": phase.id,
                "plan": self._study.plan_path.name,
                "what": phase.what,
                "needs": phase.needs,
                "target": phase.target,
                "gate": phase.gate,
                "experiments": [experiment.id for experiment in phase.experiments],
            },
        )

    def experiment(self, experiment: Experiment, trials: Sequence[Trial] | None = None) -> None:
        """An experiment begins; again with `trials` once those of `from: top(...)` are known."""
        self._what[experiment.phase, experiment.id] = experiment
        members = experiment.trials if trials is None else trials
        told = self._journal.has_prefix("experiment", f"{experiment.phase}/{experiment.id}@")
        if experiment.derive is not None and not members and told:
            return  # on a second run its trials are known from the first: do not forget them in between
        self._changed(
            "experiment",
            f"{experiment.phase}/{experiment.id}",
            {
                "phase": experiment.phase,
                "experiment": experiment.id,
                "type": experiment.kind,
                "what": experiment.what,
                "priority": experiment.priority,
                "trials": [trial.digest for trial in members],
                "expect": experiment.expect,
                "asha": experiment.asha,
                "derive": experiment.derive,
                "ensemble": None
                if experiment.ensemble is None
                else {
                    "pool": experiment.ensemble.pool,
                    "views": experiment.ensemble.views,
                    "max_members": experiment.ensemble.max_members,
                    "fusion": experiment.ensemble.fusion,
                    "weights": experiment.ensemble.weights,
                    **({} if experiment.ensemble.soups == "none" else {"soups": experiment.ensemble.soups}),
                },
                "cost_gpu_h": experiment.cost_gpu_h,
            },
        )

    # --- trials -----------------------------------------------------------------------------------------------------

    def trial_started(self, trial: Trial) -> None:
        """A trial begins, or goes on after an interruption; one that is done is only passed by, and stays done."""
        if any(self._journal.has_prefix("trial_ended", f"{trial.digest}/{state}/") for state in ("finished", "pruned")):
            return
        self._append("trial_started", f"{trial.digest}/{self._attempt}", self._trial(trial))

    def epoch(self, trial: Trial, row: EpochRow) -> None:
        """An epoch ended. One that comes again after a resume is known already, unless its metrics differ."""
        steady = sorted((k, v) for k, v in row.metrics.items() if not k.endswith("seconds") and math.isfinite(v))
        mark = blake2b(repr(steady).encode(), digest_size=4).hexdigest()
        self._append(
            "epoch",
            f"{trial.digest}/{row.number}/{mark}",
            {
                "digest": trial.digest,
                "number": row.number,
                "metrics": row.metrics,
                "seconds": row.seconds,
                "epoch_time_ms": row.time_ms,
                "best": row.best,
            },
        )

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None:
        """A trial finished, was pruned or failed; a failed one may begin again."""
        last = record.epochs[-1].number if record.epochs else 0
        self._append(
            "trial_ended",
            f"{trial.digest}/{record.state}/{last}/{record.attempts}",
            {
                "digest": trial.digest,
                "state": record.state,
                "epochs": last,
                "best_epoch": record.best_epoch,
                "best": record.best,
                "last": record.last,
                "incidents": [str(incident) for incident in record.incidents],
                "seconds": record.seconds,
                "reason": record.reason,
                "ended_ms": record.ended_ms,
                "checkpoint": f"trials/{trial.digest}/best" if record.best_epoch else None,
            },
        )

    def pictures(self, digest: str, folder: Path) -> None:
        """Sample pictures of a trial, all image files of `folder`; keep them there, the shipper reads them later."""
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)
        contents = {path.name: blake2b(path.read_bytes(), digest_size=8).hexdigest() for path in files}
        self._changed("pictures", digest, {"digest": digest, "folder": self._place(folder), "files": contents})

    def _trial(self, trial: Trial) -> dict[str, Any]:
        experiment = self._what.get((trial.phase, trial.experiment))
        return {
            "digest": trial.digest,
            "name": trial.name,
            "phase": trial.phase,
            "experiment": trial.experiment,
            "what": experiment.what if experiment else "",
            "priority": experiment.priority if experiment else 0,
            "config": trial.config,
            "fold": trial.fold,
            "workers": trial.workers,
            "resources": trial.resources,
            "settings": trial.settings,
            "max_epochs": trial.config.max_epochs,
            "data": self._study.datasets.digest if self._study.datasets else None,
            "plan": self._study.plan_path.name,
        }

    # --- results ----------------------------------------------------------------------------------------------------

    def ensemble(
        self,
        experiment: Experiment,
        *,
        metrics: Mapping[str, float],
        members: Iterable[Mapping[str, Any]] = (),
        settings: Mapping[str, Any] | None = None,
        curve: Iterable[Mapping[str, float]] = (),
        files: Mapping[str, Path] | None = None,
        notes: str = "",
    ) -> None:
        """The result of an experiment that trains nothing: an ensemble, or a search of thresholds.

        Args:
            metrics: e.g. hmean, precision, recall, best_single_hmean, gain_low, gain_high.
            members: one mapping each, e.g. digest, name, weight.
            settings: what was chosen: thresh, box_thresh, unclip_ratio, views ...
            curve: rows with a knob (`thresh`, `box_thresh` ...) and metrics (hmean ...); drawn over step = 100 x knob.
            files: artifact path -> file or folder, e.g. {"submission.csv": path, "bundle/bundle.json": path}.
            notes: Markdown for the run's description.
        """
        self._changed(
            "ensemble",
            f"{experiment.phase}/{experiment.id}",
            {
                "phase": experiment.phase,
                "experiment": experiment.id,
                "metrics": metrics,
                "members": list(members),
                "settings": settings or {},
                "curve": list(curve),
                "files": {name: self._place(path) for name, path in (files or {}).items()},
                "notes": notes,
            },
        )

    def folds(self, experiment: Experiment, metrics: Mapping[str, float], notes: str = "") -> None:
        """A fold experiment: scores of its folds on the validation images, and out-of-fold.

        Args:
            notes: the same for people.
        """
        self._changed(
            "folds",
            f"{experiment.phase}/{experiment.id}",
            {"phase": experiment.phase, "experiment": experiment.id, "metrics": metrics, "notes": notes},
        )

    def decision(self, phase_id: str, decision: Any, markdown: str = "") -> None:
        """What was decided on a phase, with its numbers (a mapping or a dataclass), and the same for people."""
        self._changed("decision", phase_id, {"phase": phase_id, "decision": decision, "markdown": markdown})

    def finished(self, state: str, reason: str = "") -> None:
        """The driver ends: `done`, `failed`, `gate` or `interrupted`."""
        self._append(
            "finished", str(self._attempt), {"state": state, "reason": reason, "plan": self._study.plan_path.name}
        )

    # --- writing ----------------------------------------------------------------------------------------------------

    def _place(self, path: Path) -> str:
        """A path relative to the workspace where it lies inside, so that a workspace can be moved."""
        absolute, home = path.absolute(), self._journal.workspace.absolute()
        return absolute.relative_to(home).as_posix() if absolute.is_relative_to(home) else str(absolute)

    def _append(self, kind: str, key: str, payload: Mapping[str, Any]) -> None:
        self._journal.append(kind, key, self._clean(payload))

    def _changed(self, kind: str, name: str, payload: Mapping[str, Any]) -> None:
        self._journal.append_changed(kind, name, self._clean(payload))

    def _clean(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        cleaned: dict[str, Any] = scrub(plain(payload))
        return cleaned
