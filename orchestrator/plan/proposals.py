"""Sweeps whose trials are proposed while they run: what is known of them before, and the trials that they became.

A proposal is made by `execution.asking` and kept by the ledger before its trial starts; from there it is a trial like
any other, made by the same code. Nothing here needs the sampler.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from detector.version import TRAINING
from orchestrator.errors import LedgerError
from orchestrator.plan import advice, space
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.identity import UNKNOWN_DATA, short
from orchestrator.plan.schema import SweepSpec
from orchestrator.plan.settings import flat, flat_knobs, nested, overlay, validate
from orchestrator.plan.study import Experiment, Proposals, Study, Trial
from orchestrator.plan.trials import after_grace, base_settings, make_trial, swept_name

FORMAT = 2  #  1 knew neither of refused points nor of what a plan's limits left out
# Settings that came after the first proposals: at this value sweeps are what they were without them.
LATER = {"keep_epochs": 0}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a sampler is told of a trial.

    Attributes:
        value: H of the best epoch of a finished trial, of the last epoch of a pruned one.
        epoch: the last, of a pruned trial.
    """

    state: Literal["running", "finished", "pruned", "failed"]
    value: float | None = None
    epoch: int | None = None


RUNNING = Outcome("running")


@dataclass(frozen=True, slots=True)
class Refused:
    """A point that came up on the way to a proposal, and did not become a trial.

    Attributes:
        why: `known` (an earlier trial has it), `same training` (as an earlier trial's, by another point), or the rule
            that its settings break.
    """

    point: Mapping[str, Any]
    why: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a plan's limits did not let start.

    Attributes:
        digest: of the trial; empty for all that the sweep had not proposed by then.
        limits: that they were held against, as plain data: under others it is asked anew.
        reason: with its numbers.
    """

    digest: str
    limits: Mapping[str, Any]
    reason: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """One proposed trial, as the ledger keeps it.

    Attributes:
        index: in its sweep, from 0; the random starts come first.
        point: setting -> value; `picks`: before what depends on another setting was multiplied.
        digest: of the trial as it was first made; another `stop` may since have moved where its patience begins.
        by: `random` where fewer trials than there are starts had told anything.
        news: index -> outcome of the earlier trials, where it is another than the proposal before this one saw. All
            news up to here are what this one saw; those of whom there are none were running.
        refused: what came up before it, in this order; the sampler was led away from each.
    """

    index: int
    point: Mapping[str, Any]
    picks: Mapping[str, Any]
    digest: str
    by: Literal["tpe", "random"]
    news: Mapping[int, Outcome]
    refused: tuple[Refused, ...] = ()

    def as_json(self) -> dict[str, Any]:
        news = {str(index): {k: v for k, v in asdict(o).items() if v is not None} for index, o in self.news.items()}
        return asdict(self) | {"news": news}


def proposals_of(
    sweep: SweepSpec, trials: Sequence[Trial], base: Mapping[str, Any], data: DataFacts | None
) -> Proposals | None:
    """What is known beforehand of a sweep that proposes; None of another.

    Args:
        trials: those that a random search would run.
        base: nested settings that every point is laid upon.
    """
    if sweep.search is None or sweep.search.tpe is None or sweep.trials is None:
        return None
    axes = space.axes_of(sweep.space)
    starts = advice.starts_of(sweep.search.tpe, axes)
    longest = max(trial.config.max_epochs for trial in trials)
    return Proposals(
        sweep=_identity(sweep, axes, starts, base, data),
        trials=sweep.trials,
        starts=starts,
        candidates=sweep.search.tpe.candidates,
        seed=sweep.seed,
        space=flat_knobs(sweep.space),
        base=base,
        max_epochs=int(max(longest, space.extent(axes, "max_epochs")[1])) if "max_epochs" in axes else longest,
        stand_ins=tuple(replace(trial, digest=f"?{trial.name}") for trial in trials[starts:]),
    )


def _identity(
    sweep: SweepSpec, axes: Mapping[str, space.Axis], starts: int, base: Mapping[str, Any], data: DataFacts | None
) -> str:
    """Of a sweep's proposals; not of its length, its stops or its name, which leave them as they were."""
    assert sweep.search is not None and sweep.search.tpe is not None
    settings = validate(base).model_dump(mode="json", exclude={"resources"})
    parts = {
        "space": {key: space.plain(found) for key, found in axes.items()},
        "search": [sweep.seed, starts, sweep.search.tpe.candidates],
        "base": {key: value for key, value in settings.items() if key not in LATER or value != LATER[key]},
        "data": UNKNOWN_DATA if data is None else data.digest,
        "training": TRAINING,
    }
    return short(json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def proposed(study: Study, experiment: Experiment, index: int, point: Mapping[str, Any]) -> Trial:
    """Trial number `index` of a sweep, at a point that was proposed.

    Raises:
        ValidationError: the settings of this point do not fit each other.
    """
    rule = experiment.proposals
    assert rule is not None
    settings = validate(overlay(rule.base, nested(point)))
    name = swept_name(experiment.phase, experiment.id, index, rule.trials)
    base = flat(base_settings(study.resolved).model_dump(mode="json"))
    trial = make_trial(name, experiment.phase, experiment.id, settings, None, study.data, base)
    return after_grace(trial, experiment.asha, study.data, base)


def with_proposals(study: Study, kept: Callable[[str], Any]) -> Study:
    """The study with all trials that its sweeps have proposed so far.

    Args:
        kept: what the ledger keeps under a sweep's identity, or None.

    Raises:
        LedgerError: it does not hold this sweep's proposals.
    """
    if study.data is None:
        return study  # provisional identities match nothing
    phases = [
        replace(phase, experiments=tuple(_with_proposals(study, item, kept) for item in phase.experiments))
        for phase in study.phases
    ]
    return replace(study, phases=tuple(phases))


def _with_proposals(study: Study, experiment: Experiment, kept: Callable[[str], Any]) -> Experiment:
    rule = experiment.proposals
    if rule is None:
        return experiment
    rows = read_proposals(kept(rule.sweep), rule)[: rule.trials - rule.starts]
    trials = [proposed(study, experiment, row.index, row.point) for row in rows]
    return replace(experiment, trials=(*experiment.trials[: rule.starts], *trials))


def read_proposals(kept: Any, rule: Proposals) -> tuple[Proposal, ...]:
    """What the ledger keeps of a sweep, in order.

    Raises:
        LedgerError: it is something else.
    """
    if kept is None:
        return ()
    try:
        rows = tuple(map(_row, kept["proposals"]))
        fits = kept["format"] in (1, FORMAT) and [row.index for row in rows] == [
            rule.starts + n for n in range(len(rows))
        ]
    except (TypeError, KeyError, ValueError, AttributeError):
        fits, rows = False, ()
    if not fits:
        raise LedgerError(
            f"sweeps/{rule.sweep}.json: not the proposals of a sweep from {rule.starts} on (format {FORMAT}); "
            "remove the file to have them made anew"
        )
    return rows


def _row(value: Mapping[str, Any]) -> Proposal:
    news = {int(index): Outcome(**outcome) for index, outcome in value["news"].items()}
    refused = tuple(Refused(**one) for one in value.get("refused", ()))
    return Proposal(**{**value, "news": news, "refused": refused})


def read_left_out(kept: Any) -> tuple[LeftOut, ...]:
    """What of a sweep its plan's limits have left out, the last word on each."""
    return () if kept is None else tuple(LeftOut(**one) for one in kept.get("left_out", ()))


def as_kept(
    rule: Proposals, experiment: str, rows: Sequence[Proposal], left_out: Sequence[LeftOut] = ()
) -> dict[str, Any]:
    """What the ledger keeps; `experiment` is for people."""
    search = {"seed": rule.seed, "starts": rule.starts, "candidates": rule.candidates}
    return {
        "format": FORMAT,
        "experiment": experiment,
        "space": dict(rule.space),
        "search": search,
        "proposals": [row.as_json() for row in rows],
        "left_out": [asdict(one) for one in left_out],
    }
