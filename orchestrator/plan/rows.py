"""The trials of a study as a table: each with its settings, its state and what is left of it, known or to come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from detector.training.schedule import steps_per_epoch
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.pace import Pace
from orchestrator.plan.settings import flat
from orchestrator.plan.study import Experiment, Study, Trial, derived_name

NEW = "new"  # a trial that the ledger has never seen
WAITING = "waiting"  # for its source
PROPOSED = "to propose"  # from the results of the trials before it


@dataclass(frozen=True, slots=True)
class Row:
    """One trial.

    Attributes:
        digest: None for trials that are not known yet.
        state: as in the ledger; `new` where it has none; `waiting` for trials that wait for a source; `to propose` for
            those that a sweep will make of the results before them.
        settings: dotted keys that differ from the plan's defaults.
        epochs: at most, each; `expected`: still to train, with what ASHA stops and the ledger has.
        steps: of the optimizer, an epoch; None while the pages are not there.
        gpu_hours: of the expected epochs; None where neither the ledger nor the author knows.
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
    expected: float | None = None
    steps: int | None = None
    gpu_hours: float | None = None


def rows(study: Study, states: Mapping[str, str], paces: Mapping[str, Pace]) -> tuple[Row, ...]:
    """Every trial in the order of the study.

    Args:
        states: digest -> state, of the trials that the ledger knows.
        paces: digest -> what is left of it.
    """
    return tuple(
        row
        for phase in study.phases
        for experiment in phase.experiments
        for row in _of_experiment(experiment, states, paces, study.data)
    )


def steps(trial: Trial, data: DataFacts) -> int:
    """Optimizer steps of one epoch: ceil(pages / (batch_size x workers x accumulate)), without the fold's pages."""
    config = trial.config
    return steps_per_epoch(data.pages_of(trial.fold), config.batch_size, trial.workers, config.accumulate)[1]


def _of_experiment(
    experiment: Experiment, states: Mapping[str, str], paces: Mapping[str, Pace], data: DataFacts | None
) -> Iterable[Row]:
    every = (*experiment.trials, *experiment.unproposed)
    mean = _mean([paces[t.digest] for t in every if t.digest in paces]) if experiment.asha else None
    for trial in experiment.trials:
        pace = paces.get(trial.digest)
        if mean is not None and pace is not None and pace.epochs:
            pace = mean  # which of a sweep's trials ASHA stops is not known
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
            None if pace is None else pace.epochs,
            None if data is None else steps(trial, data),
            None if pace is None else pace.gpu_hours,
        )
    yield from _to_propose(experiment, mean, paces)
    yield from _of_derived(experiment)


def _to_propose(experiment: Experiment, mean: Pace | None, paces: Mapping[str, Pace]) -> Iterable[Row]:
    rule = experiment.proposals
    for stand_in in experiment.unproposed if rule is not None else ():
        pace = mean or paces.get(stand_in.digest)
        yield Row(
            experiment.phase,
            experiment.id,
            stand_in.name,
            None,
            PROPOSED,
            {},
            None if rule is None or "max_epochs" in rule.space else stand_in.config.max_epochs,
            None if rule is None or "workers" in rule.space else stand_in.workers,
            experiment.priority,
            None if pace is None else pace.epochs,
            None,
            None if pace is None else pace.gpu_hours,
        )


def _mean(paces: Sequence[Pace]) -> Pace | None:
    """The mean of what is left of those that have anything left."""
    left = [pace for pace in paces if pace.epochs]
    if not left:
        return None
    seconds = [pace.seconds for pace in left if pace.seconds is not None]
    return replace(
        left[0],
        epochs=sum(pace.epochs for pace in left) / len(left),
        seconds=sum(seconds) / len(seconds) if len(seconds) == len(left) else None,
        gpus=sum(pace.gpus for pace in left) / len(left),
    )


def _of_derived(experiment: Experiment) -> Iterable[Row]:
    if experiment.derive is not None and not experiment.trials:
        rule = experiment.derive
        for rank, (fold, seed) in product(range(1, rule.source.count + 1), rule.repeats):
            own = {key: value for key, value in (("fold", fold), ("seed", seed)) if value is not None}
            name = derived_name(experiment, rank, fold, seed)
            settings = flat(rule.changes) | own
            yield Row(experiment.phase, experiment.id, name, None, WAITING, settings, None, None, experiment.priority)


def digests(study: Study) -> tuple[str, ...]:
    """The digests of all trials known now."""
    return tuple(trial.digest for trial in trials(study))


def trials(study: Study) -> tuple[Trial, ...]:
    """All trials known now."""
    return tuple(trial for phase in study.phases for experiment in phase.experiments for trial in experiment.trials)
