"""A plan to a study: phases in the order of their needs, experiments by priority, every trial with its digest."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from detector.config import Config
from orchestrator.errors import Fault, PlanError
from orchestrator.plan.advice import plan_warnings
from orchestrator.plan.data import facts_of, present, read_datasets, read_facts
from orchestrator.plan.datasets import Datasets
from orchestrator.plan.faults import message_of
from orchestrator.plan.making import Maker
from orchestrator.plan.schema import PhaseSpec, Plan
from orchestrator.plan.settings import flat, overlay
from orchestrator.plan.study import Experiment, Study, Trial, derived_name
from orchestrator.plan.trials import base_settings, differences, trial_digest
from orchestrator.storage.mirror import is_url, mirror_of


def expand(plan: Plan, require_data: bool = True, pages: bool = True) -> Study:
    """The study of a plan.

    Args:
        plan: as loaded.
        require_data: read (or make) the pages, and fail if they are not there. Without it pages are read only if they
            are there; else `datasets` is None and digests are provisional: they match nothing in a ledger.
        pages: False for facts and digests alone, which is fast where nothing has changed; `datasets` is then None.

    Raises:
        PlanError: two experiments would train the same thing, or settings that a sweep draws do not fit together.
        DataError: pages that cannot be used.
    """
    workspace = workspace_of(plan)
    datasets: Datasets | None = None
    if require_data or (pages and present(plan.data, workspace)):
        datasets = read_datasets(plan.data, workspace)
    facts = read_facts(plan.data, workspace) if datasets is None else facts_of(datasets)
    maker = Maker(plan, facts)
    phases = tuple(maker.phase(phase) for phase in _in_order(plan))
    maker.refuse_twins()
    maker.doubt_soups()
    if maker.faults:
        raise PlanError(maker.faults)
    return Study(
        roadmap=plan.roadmap,
        plan_path=plan.origin.path,
        workspace=workspace,
        phases=phases,
        baseline=plan.baseline.given(),
        datasets=datasets,
        concurrent=plan.concurrent,
        source=plan.origin.source,
        resolved=plan.origin.tree.plain(),
        warnings=(*maker.warnings, *plan_warnings(plan)),
        budget_gpu_h=plan.budget.gpu_hours,
        deadline=plan.budget.deadline,
        data=facts,
        retries=plan.retries,
    )


def derive(study: Study, experiment: Experiment, best: Sequence[Trial]) -> tuple[Trial, ...]:
    """The trials of a `from: top(...)` experiment, once its source has run.

    Args:
        study: where the experiment stands.
        experiment: with `derive` set.
        best: the trials that `top(...)` names, best first.

    Raises:
        PlanError: `set` does not fit the settings of a source.
    """
    rule = experiment.derive
    if rule is None:
        raise ValueError(f"{experiment.phase}.{experiment.id} is known without a source")
    settings = {key: value for key, value in rule.changes.items() if key not in ("workers", "resources")}
    base = flat(base_settings(study.resolved).model_dump(mode="json"))
    data = study.data or (facts_of(study.datasets) if study.datasets is not None else None)
    trials: dict[str, Trial] = {}
    for rank, source in enumerate(best, start=1):
        for fold, seed in rule.repeats:
            merged = overlay(source.config.model_dump(mode="json"), settings | ({} if seed is None else {"seed": seed}))
            try:
                config = Config.model_validate_json(json.dumps(merged), strict=True)
            except ValidationError as error:
                message = f"upon {source.name}: {message_of(error)}"
                where = f"{experiment.phase}.{experiment.id}"
                raise PlanError([Fault(str(study.plan_path), 0, 0, where, message)]) from error
            trial = replace(
                source,
                name=derived_name(experiment, rank, fold, seed),
                phase=experiment.phase,
                experiment=experiment.id,
                config=config,
                fold=source.fold if fold is None else fold,
                workers=int(rule.changes.get("workers", source.workers)),
            )
            trial = replace(trial, settings=differences(base, trial), digest=trial_digest(trial, data))
            trials.setdefault(trial.digest, trial)
    return tuple(trials.values())


def workspace_of(plan: Plan) -> Path:
    """The plan's `workspace`, else $ORCHESTRATOR_WORKSPACE/<roadmap>, else ./workspace/<roadmap>.

    Of one on s3:// it is the folder that mirrors it on this machine.
    """
    place = plan.workspace or f"{os.environ.get('ORCHESTRATOR_WORKSPACE') or 'workspace'}/{plan.roadmap}"
    return mirror_of(place) if is_url(place) else Path(place).expanduser()


def _in_order(plan: Plan) -> list[PhaseSpec]:
    """Phases after all that they need, otherwise as in the file. `load` has refused circles."""
    here = {phase.id: phase for phase in plan.phases}
    ordered: dict[str, PhaseSpec] = {}

    def visit(phase: PhaseSpec) -> None:
        for name in phase.needs:
            if name in here and name not in ordered:
                visit(here[name])
        ordered.setdefault(phase.id, phase)

    for phase in plan.phases:
        visit(phase)
    return list(ordered.values())
