"""What `check` tells of a study: every trial with its settings and state, what waits for a source, totals, warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from detector.config import Postprocess
from orchestrator.plan.study import Effect, Experiment, Phase, Study, Top, Trial, derived_name

NEW = "new"  # a trial that the ledger has never seen
WAITING = "waiting"  # for its source
DIGITS = 4  # of a score


@dataclass(frozen=True, slots=True)
class Row:
    """One trial.

    Attributes:
        digest: None for trials that wait for a source.
        state: as in the ledger; `new` where it has none; `waiting` for trials that wait for a source.
        settings: dotted keys that differ from the plan's defaults.
        epochs: at most, each.
    """

    phase: str
    experiment: str
    name: str
    digest: str | None
    state: str
    settings: Mapping[str, Any]
    epochs: int | None
    workers: int | None
    priority: int


def rows(study: Study, states: Mapping[str, str]) -> tuple[Row, ...]:
    """Every trial in the order of the study.

    Args:
        states: digest -> state, of the trials that the ledger knows.
    """
    return tuple(
        row for phase in study.phases for experiment in phase.experiments for row in _of_experiment(experiment, states)
    )


def _of_experiment(experiment: Experiment, states: Mapping[str, str]) -> Iterable[Row]:
    for trial in experiment.trials:
        yield Row(
            trial.phase,
            trial.experiment,
            trial.name,
            trial.digest,
            states.get(trial.digest, NEW),
            dict(trial.settings),
            trial.config.max_epochs,
            trial.workers,
            experiment.priority,
        )
    if experiment.derive is not None and not experiment.trials:
        rule = experiment.derive
        for rank, (fold, seed) in product(range(1, rule.source.count + 1), rule.repeats):
            own = {key: value for key, value in (("fold", fold), ("seed", seed)) if value is not None}
            name = derived_name(experiment, rank, fold, seed)
            settings = _flat(rule.changes) | own
            yield Row(experiment.phase, experiment.id, name, None, WAITING, settings, None, None, experiment.priority)


def as_json(study: Study, states: Mapping[str, str]) -> dict[str, Any]:
    """The preview as plain data; `provisional` says that the digests match no ledger, since the data is not here."""
    listed = rows(study, states)
    return {
        "roadmap": study.roadmap,
        "plan": str(study.plan_path),
        "workspace": str(study.workspace),
        "data": _data_json(study),
        "provisional": study.data is None,
        "phases": [_phase_json(phase) for phase in study.phases],
        "trials": [asdict(row) for row in listed],
        "totals": totals(study, listed),
        "warnings": list(warnings(study)),
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
                "work": work(e),
            }
            for e in phase.experiments
        ],
    }


# --- text ------------------------------------------------------------------------------------------------------------


def text(study: Study, states: Mapping[str, str]) -> str:
    """The preview for people."""
    listed = rows(study, states)
    lines = [f"{study.roadmap}: {study.plan_path}, workspace {study.workspace}", _data_text(study)]
    for phase in study.phases:
        lines += ["", _phase_text(phase)]
        for experiment in phase.experiments:
            lines.append(_experiment_text(experiment))
            mine = [row for row in listed if (row.phase, row.experiment) == (phase.id, experiment.id)]
            lines += aligned([_cells(row, study.data is None) for row in mine], "    ")
    lines += ["", _totals_text(totals(study, listed))]
    found = warnings(study)
    if found:
        lines += ["", f"{len(found)} warning{'s' if len(found) > 1 else ''}:", *(f"  {line}" for line in found)]
    return "\n".join(lines)


def _data_text(study: Study) -> str:
    data = study.data
    if data is None:
        return "data: not here yet, so digests are provisional (marked ?) and nothing is looked up in the ledger"
    folds = f", {data.folds} folds" if data.folds else ""
    sizes = f"{data.train} train, {data.val} val, {data.test} test pages, {data.train_words} + {data.val_words} words"
    return f"data: {sizes}, digest {data.digest}{folds}"


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
    done = work(experiment)
    what = f"  {experiment.what}" if experiment.what else ""
    return f"  {experiment.id}{what}  [{'; '.join(parts)}]" + (f"\n    {done}" if done else "")


def work(experiment: Experiment) -> str:
    """What an experiment without trials of its own will do, in one line; empty for one with trials."""
    if experiment.derive is not None:
        rule = experiment.derive
        count = rule.source.count * len(rule.repeats)
        times = [f" x {len(rule.folds)} folds"] if rule.folds else []
        times += [f" x {len(rule.seeds)} seeds"] if rule.seeds else []
        changes = "".join(f" {key}={setting_text(value)}" for key, value in _flat(rule.changes).items())
        return f"{count} trial{'s' if count > 1 else ''}: {_top(rule.source)}{''.join(times)}{changes}"
    if experiment.thresholds is not None:
        of = experiment.thresholds.of
        return f"{_rules(experiment.thresholds.rules)} on {_top(of) if isinstance(of, Top) else of}"
    if experiment.ensemble is not None:
        spec = experiment.ensemble
        pool = _top(spec.pool) if isinstance(spec.pool, Top) else ", ".join(spec.pool)
        return f"up to {spec.max_members} members of {pool}; views {', '.join(spec.views)}; {_rules(spec.rules)}"
    return ""


def _rules(rules: Sequence[Postprocess]) -> str:
    return f"{len(rules)} rules" if len(rules) > 1 else "1 rule"


def effect_text(effect: Effect) -> str:
    """`hmean +0.0030..+0.0050`."""
    sign = "+" if effect.relative else ""
    low, high = (f"{value:{sign}.{DIGITS}f}" for value in (effect.low, effect.high))
    if effect.low == effect.high:
        return f"{effect.stat} {low}"
    return f"{effect.stat} >= {low}" if effect.high == 1.0 else f"{effect.stat} {low}..{high}"


def _cells(row: Row, provisional: bool) -> tuple[str, ...]:
    settings = " ".join(f"{key}={setting_text(value)}" for key, value in row.settings.items())
    workers = f"{row.workers} workers" if row.workers and row.workers > 1 else ""
    digest = "" if row.digest is None else f"{row.digest}{'?' if provisional else ''}"
    return (
        row.name,
        digest,
        row.state,
        "" if row.epochs is None else f"{row.epochs} epoch{'' if row.epochs == 1 else 's'}",
        workers,
        settings or "the defaults",
    )


def aligned(cells: Sequence[tuple[str, ...]], indent: str = "") -> list[str]:
    """Rows of cells as lines, columns one below the other; columns that are empty throughout are left out."""
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))] if cells else []
    return [indent + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True) if w).rstrip() for row in cells]


def _totals_text(sums: Mapping[str, Any]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sums["states"].items()) or "nothing to train"
    cost = f"{sums['cost_gpu_h']:g} GPU-h by their authors"
    if sums["cost_missing"]:
        cost += f" ({len(sums['cost_missing'])} without a cost)"
    budget = f", budget {sums['budget_gpu_h']:g} GPU-h" if sums["budget_gpu_h"] else ""
    deadline = f", deadline {sums['deadline']}" if sums["deadline"] else ""
    return f"{sums['trials']} trials ({states}), at most {sums['epochs']} epochs known now; {cost}{budget}{deadline}"


def _top(top: Top) -> str:
    return f"top({top.scope}, {top.count})"


def setting_text(value: Any) -> str:
    """A setting's value in a table."""
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")


def _flat(changes: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in changes.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def digests(study: Study) -> tuple[str, ...]:
    """The digests of all trials known now."""
    return tuple(trial.digest for trial in trials(study))


def trials(study: Study) -> tuple[Trial, ...]:
    """All trials known now."""
    return tuple(trial for phase in study.phases for experiment in phase.experiments for trial in experiment.trials)
