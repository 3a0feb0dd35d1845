"""What `check` tells of a study: every trial with its settings and state, what waits for a source, totals, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.forecast import Forecast
from orchestrator.plan.preflight import Preflight
from orchestrator.plan.rows import PROPOSED, Row, rows
from orchestrator.plan.study import Experiment, Phase, Study
from orchestrator.plan.wording import DIGITS, aligned, effect_text, search_text, setting_text, work


def as_json(
    study: Study,
    states: Mapping[str, str],
    coming: Forecast,
    doubts: Sequence[str] = (),
    missing: Sequence[str] = (),
    looked: Preflight | None = None,
) -> dict[str, Any]:
    """The preview as plain data; `provisional` says that the digests match no ledger, since the data is not here."""
    listed = rows(study, states, coming.trials)
    return {
        "roadmap": study.roadmap,
        "plan": str(study.plan_path),
        "workspace": str(study.workspace),
        "data": _data_json(study),
        "data_missing": list(missing),
        "preflight": None if looked is None else looked.as_json(),
        "provisional": study.data is None,
        "phases": [_phase_json(phase) for phase in study.phases],
        "trials": [asdict(row) for row in listed],
        "totals": totals(study, listed),
        "forecast": coming.as_json(),
        "warnings": [*warnings(study), *_twins(looked), *doubts],
    }


def totals(study: Study, listed: Sequence[Row]) -> dict[str, Any]:
    """Trainings by state, epochs at most, and the authors' GPU-hours; `cost_missing`: experiments without a cost."""
    states = Counter(row.state for row in listed)
    training = [e for phase in study.phases for e in phase.experiments if e.kind in ("train", "derive")]
    return {
        "trials": len(listed),
        "states": dict(sorted(states.items())),
        "epochs": sum(row.epochs or 0 for row in listed),
        "cost_gpu_h": sum(e.cost_gpu_h or 0.0 for phase in study.phases for e in phase.experiments),
        "cost_missing": [f"{e.phase}.{e.id}" for e in training if e.cost_gpu_h is None],
        "budget_gpu_h": study.budget_gpu_h,
        "deadline": study.deadline,
    }


def warnings(study: Study) -> tuple[str, ...]:
    """What may mislead, and what reading the data dropped."""
    return (*study.warnings, *(study.data.notes if study.data is not None else ()))


def _twins(looked: Preflight | None) -> list[str]:
    return [] if looked is None else [str(twin) for twin in looked.twins]


def _data_json(study: Study) -> dict[str, Any] | None:
    return None if study.data is None else asdict(study.data)


def _phase_json(phase: Phase) -> dict[str, Any]:
    return {
        "id": phase.id,
        "what": phase.what,
        "needs": list(phase.needs),
        "target": dict(phase.target),
        "gate": None if phase.gate is None else {"pass": phase.gate.expression, "otherwise": phase.gate.otherwise},
        "experiments": [
            {
                "id": e.id,
                "kind": e.kind,
                "what": e.what,
                "priority": e.priority,
                "cost_gpu_h": e.cost_gpu_h,
                "expect": [asdict(effect) for effect in e.expect],
                "asha": None if e.asha is None else asdict(e.asha),
                "work": search_text(e) or work(e),
            }
            for e in phase.experiments
        ],
    }


# --- text ------------------------------------------------------------------------------------------------------------


def text(
    study: Study,
    states: Mapping[str, str],
    coming: Forecast,
    doubts: Sequence[str] = (),
    missing: Sequence[str] = (),
    looked: Preflight | None = None,
) -> str:
    """The preview for people.

    Args:
        states: digest -> state, of the trials that the ledger knows.
        doubts: warnings beside those of the study.
        missing: files and folders of the data that are not there.
        looked: what was found in its images.
    """
    listed = rows(study, states, coming.trials)
    lines = [f"{study.roadmap}: {study.plan_path}, workspace {study.workspace}", _data_text(study)]
    lines += [f"  not there: {path}" for path in missing]
    lines += [f"  {part}: {found}" for part, found in looked.sizes.items()] if looked is not None else []
    mine: dict[tuple[str, str], list[Row]] = {}
    for row in listed:
        mine.setdefault((row.phase, row.experiment), []).append(row)
    for phase in study.phases:
        lines += ["", _phase_text(phase)]
        for experiment in phase.experiments:
            lines.append(_experiment_text(experiment))
            found = mine.get((phase.id, experiment.id), [])
            lines += aligned([_cells(row, study.data is None) for row in found], "    ")
    lines += ["", _totals_text(totals(study, listed)), str(coming)]
    doubtful = [*warnings(study), *_twins(looked), *doubts]
    if doubtful:
        many = "s" if len(doubtful) > 1 else ""
        lines += ["", f"{len(doubtful)} warning{many}:", *(f"  {line}" for line in doubtful)]
    return "\n".join(lines)


def _data_text(study: Study) -> str:
    data = study.data
    if data is None:
        return "data: not here yet, so digests are provisional (marked ?) and nothing is looked up in the ledger"
    folds = f"\n  folds: {_parts_text(data)}" if data.folds else ""
    sizes = f"{data.train} train, {data.val} val, {data.test} test pages, {data.train_words} + {data.val_words} words"
    return f"data: {sizes}, digest {data.digest}{folds}"


def _parts_text(data: DataFacts) -> str:
    """The folds of the training pages."""
    pages, words = ("/".join(map(str, counts)) for counts in (data.fold_sizes, data.fold_words))
    return f"{data.folds}, of {pages} pages with {words} words, digest {data.folds_digest}"


def _phase_text(phase: Phase) -> str:
    parts = [f"target {stat} {value:.{DIGITS}f}" for stat, value in phase.target.items()]
    parts += [f"needs {', '.join(phase.needs)}"] if phase.needs else []
    parts += [f"gate {phase.gate.expression}, otherwise {phase.gate.otherwise}"] if phase.gate is not None else []
    return f"{phase.id}{': ' + phase.what if phase.what else ''}" + "".join(f"\n  {part}" for part in parts)


def _experiment_text(experiment: Experiment) -> str:
    parts = [f"priority {experiment.priority}"]
    parts += [f"cost {experiment.cost_gpu_h:g} GPU-h"] if experiment.cost_gpu_h is not None else []
    parts += [f"expects {effect_text(effect)}" for effect in experiment.expect]
    parts += [f"ASHA from epoch {experiment.asha.grace}, 1 in {experiment.asha.eta}"] if experiment.asha else []
    done = search_text(experiment) or work(experiment)
    what = f"  {experiment.what}" if experiment.what else ""
    return f"  {experiment.id}{what}  [{'; '.join(parts)}]" + (f"\n    {done}" if done else "")


def _cells(row: Row, provisional: bool) -> tuple[str, ...]:
    settings = " ".join(f"{key}={setting_text(value)}" for key, value in row.settings.items())
    workers = f"{row.workers} workers" if row.workers and row.workers > 1 else ""
    digest = "" if row.digest is None else f"{row.digest}{'?' if provisional else ''}"
    return (
        row.name,
        digest,
        row.state,
        "" if row.epochs is None else f"{row.epochs} epoch{'' if row.epochs == 1 else 's'}",
        "" if row.expected is None or row.expected == row.epochs else f"{row.expected:.1f} to come",
        "" if row.steps is None else f"{row.steps} steps",
        "" if row.gpu_hours is None else f"{row.gpu_hours:.2f} GPU-h",
        workers,
        settings or ("by what is known then" if row.state == PROPOSED else "the defaults"),
    )


def _totals_text(sums: Mapping[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sums["states"].items()) or "nothing to train"
    cost = f"{sums['cost_gpu_h']:g} GPU-h by their authors"
    if sums["cost_missing"]:
        cost += f" ({len(sums['cost_missing'])} without a cost)"
    budget = f", budget {sums['budget_gpu_h']:g} GPU-h" if sums["budget_gpu_h"] else ""
    deadline = f", deadline {sums['deadline']}" if sums["deadline"] else ""
    return f"{sums['trials']} trials ({states}), at most {sums['epochs']} epochs known now; {cost}{budget}{deadline}"
