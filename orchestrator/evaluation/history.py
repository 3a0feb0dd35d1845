"""The phases of a roadmap that other plan files describe, as far as the ledger knows them.

Phase 3 may need phase 2, whose plan is another file with the same workspace: its finished trials are candidates for
`top(...)`, ensembles and baselines here. Only a training on the same data with the same code counts, which its digest
proves: it is computed anew from the recorded config and compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from detector.config import Config
from orchestrator.ledger import Ledger
from orchestrator.plan.data import folds_digest
from orchestrator.plan.identity import digest
from orchestrator.plan.proposals import with_proposals
from orchestrator.plan.study import Experiment, Phase, Resources, Study, Trial


def with_history(study: Study, ledger: Ledger) -> Study:
    """The study with the trials that its sweeps have proposed, and with the phases of other files before its own,
    finished trials only; those it needs come last."""
    study = with_proposals(study, ledger.proposals)
    here = {phase.id for phase in study.phases}
    known = {trial.digest for phase in study.phases for item in phase.experiments for trial in item.trials}
    found: dict[str, dict[str, list[Trial]]] = {}
    for record in ledger.records():
        if record.state != "finished" or record.digest in known:
            continue
        trial = _trial(ledger.trial(record.digest), study)
        if trial is not None and trial.phase not in here:
            found.setdefault(trial.phase, {}).setdefault(trial.experiment, []).append(trial)
    needed = {name for phase in study.phases for name in phase.needs}
    phases = tuple(
        Phase(
            phase,
            "",
            (),
            tuple(Experiment(name, phase, "", 1, tuple(trials)) for name, trials in sorted(found[phase].items())),
            {},
        )
        for phase in sorted(found, key=lambda name: (name in needed, name))
    )
    return replace(study, phases=(*phases, *study.phases))


def _trial(value: Mapping[str, Any] | None, study: Study) -> Trial | None:
    """A recorded trial, if it is a training on this study's data by this code."""
    if value is None or study.datasets is None:
        return None
    try:
        config = Config.model_validate(value["config"])
        trial = Trial(
            value["digest"],
            value["name"],
            value["phase"],
            value["experiment"],
            config,
            value["fold"],
            value["workers"],
            Resources(**value["resources"]),
            value["settings"],
        )
    except (ValidationError, KeyError, TypeError):  # written by another version of the code: not comparable
        return None
    folds = folds_digest(study.datasets) if trial.fold is not None else ""
    same = digest(config, study.datasets.digest, trial.fold, trial.workers, folds) == trial.digest
    return trial if same else None
