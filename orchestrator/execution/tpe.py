"""Optuna's TPE as a function: the next point of a sweep from its seed, its number and what is known, nothing else.

TPE: Bergstra et al. 2011; over settings that come together at once (Falkner et al. 2018), with trials in flight among
the bad ones ("constant liar"), so that those that run beside each other differ. A fresh sampler makes each proposal:
there is no state that a death could lose.

How the sampler sees a space: a distribution as what it is, the logarithm's where it is log-uniform; numbers in rising
or falling order as a scale of places, whatever their distances; everything else as categories.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from orchestrator.plan.expressions import Distribution
from orchestrator.plan.points import Drawn, rounded, walk
from orchestrator.plan.proposals import Outcome
from orchestrator.plan.space import Axis, Values

VERSION: Final = optuna.__version__
TURNS: Final = 20  # proposals that are refused, as points that are known, before the point is drawn at random
STATES: Final[Mapping[str, TrialState]] = {
    "running": TrialState.RUNNING,
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def propose(
    axes: Mapping[str, Axis],
    seed: int,
    index: int,
    history: Sequence[tuple[Mapping[str, Any], Outcome]],
    candidates: int,
    refused: Callable[[Drawn], bool],
) -> Drawn | None:
    """Point number `index` of a sweep.

    Args:
        history: picks and outcome of each trial before, in their order.
        candidates: points of which the one with the largest expected improvement is taken.
        refused: points that will not do.

    Returns:
        None where all proposals were refused.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # `group`
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=1,  # the starts are drawn by `points`
            n_ei_candidates=candidates,
            group=True,
            constant_liar=True,
            seed=int(np.random.SeedSequence((seed, index)).generate_state(1)[0]),
        )
    study = optuna.create_study(sampler=sampler, direction="maximize")
    study.add_trials([_told(axes, picks, outcome) for picks, outcome in history])
    for _ in range(TURNS):
        trial = study.ask()  # one that is refused stays in flight, so the next is led away from it
        drawn = walk(axes, partial(_suggested, trial))
        if not refused(drawn):
            return drawn
    return None


def _told(axes: Mapping[str, Axis], picks: Mapping[str, Any], outcome: Outcome) -> FrozenTrial:
    """A trial as Optuna knows it. TPE ranks pruned ones behind finished ones, by how far they got, then by value."""
    params: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def note(key: str, name: str, values: Values) -> Any:
        distributions[name] = _distribution(values)
        params[name] = picks[key] if isinstance(values, Distribution) else values.index(picks[key])
        return picks[key]

    walk(axes, note)
    step = outcome.epoch if outcome.state == "pruned" else None
    return create_trial(
        state=STATES[outcome.state],
        params=params,
        distributions=distributions,
        value=outcome.value if outcome.state == "finished" else None,
        intermediate_values={step: outcome.value} if step is not None and outcome.value is not None else None,
    )


def _distribution(values: Values) -> BaseDistribution:
    if isinstance(values, Distribution):
        return FloatDistribution(values.low, values.high, log=values.kind == "loguniform")
    return IntDistribution(0, len(values) - 1) if _is_scale(values) else CategoricalDistribution(range(len(values)))


def _suggested(trial: optuna.Trial, key: str, name: str, values: Values) -> Any:
    if isinstance(values, Distribution):
        return rounded(trial.suggest_float(name, values.low, values.high, log=values.kind == "loguniform"), values)
    if _is_scale(values):
        return values[trial.suggest_int(name, 0, len(values) - 1)]
    return values[trial.suggest_categorical(name, range(len(values)))]


def _is_scale(values: Sequence[Any]) -> bool:
    """Whether choices are numbers in order."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return False
    return list(values) in (sorted(values), sorted(values, reverse=True))
