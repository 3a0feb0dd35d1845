"""A trial made of settings: the one place where trainings get their digest and their differences from the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.identity import UNKNOWN_DATA, digest
from orchestrator.plan.settings import TrialSettings, flat, overlay, validate
from orchestrator.plan.study import Asha, Trial


def base_data(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of every training of a plan, as plain nested data: `seed`, `metric`, `defaults`."""
    metric = {key: value for key, value in resolved.get("metric", {}).items() if key != "name"}
    return overlay({"seed": resolved.get("seed", 0), "metric": metric}, resolved.get("defaults", {}))


def base_settings(resolved: Mapping[str, Any]) -> TrialSettings:
    """`base_data`, validated."""
    return validate(base_data(resolved))


def differences(theirs: Mapping[str, Any], trial: Trial) -> dict[str, Any]:
    """Dotted settings of a trial that are not `theirs`, the plan's defaults; `workers` among them."""
    mine = flat(trial.config.model_dump(mode="json")) | {"workers": trial.workers}
    return {key: value for key, value in mine.items() if value != theirs[key]}


def trial_digest(trial: Trial, data: DataFacts | None) -> str:
    """The identity of a trial on these pages; provisional without them."""
    if data is None:
        return digest(trial.config, UNKNOWN_DATA, trial.fold, trial.workers)
    return digest(trial.config, data.digest, trial.fold, trial.workers, data.folds_digest)


def make_trial(
    name: str,
    phase: str,
    experiment: str,
    settings: TrialSettings,
    fold: int | None,
    data: DataFacts | None,
    base: Mapping[str, Any],
) -> Trial:
    """A trial of these settings; `base` are the plan's defaults, flat."""
    trial = Trial(
        digest="",
        name=name,
        phase=phase,
        experiment=experiment,
        config=settings.config(),
        fold=fold,
        workers=settings.workers,
        resources=settings.reserve(),
    )
    return replace(trial, digest=trial_digest(trial, data), settings=differences(base, trial))


def after_grace(trial: Trial, asha: Asha | None, data: DataFacts | None, base: Mapping[str, Any]) -> Trial:
    """The trial as a sweep under ASHA trains it: no patience before the first rung.

    It is another training only where patience could strike earlier; then `patience_from` says so, in its identity too.
    """
    config = trial.config
    if asha is None or not config.patience:
        return trial
    rung = min(asha.grace, config.max_epochs)
    if max(config.patience + 1, config.patience_from) >= rung:
        return trial
    trial = replace(trial, config=config.model_copy(update={"patience_from": rung}))
    return replace(trial, digest=trial_digest(trial, data), settings=differences(base, trial))


def swept_name(phase: str, experiment: str, index: int, trials: int) -> str:
    """The name of trial number `index`, from 0, of a sweep."""
    return f"{phase}/{experiment}-{index:0{max(2, len(str(trials - 1)))}d}"
