"""What a plan means: phases of experiments of trials, each trial with the digest of all that changes its result.

These are plain frozen values. `expand` makes them from a plan; execution, evaluation, tracking and report read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any, Literal

from detector.config import Config, Postprocess
from orchestrator.plan.datasets import DataFacts, Datasets

Stat = Literal["hmean", "precision", "recall"]
WeightsWay = Literal["equal", "greedy", "simplex", "auto"]
SoupsWay = Literal["none", "beside", "instead"]


@dataclass(frozen=True, slots=True)
class Resources:
    """What Ray reserves for each worker of a trial, and whether torch compiles it; not part of its identity.

    `gpus` None is the plan's `auto`: one, a share of one where workers outnumber GPUs, or none; execution decides.
    """

    cpus: float = 1.0
    gpus: float | None = 0.0
    compile: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """One training.

    Attributes:
        digest: 16 hex digits over config, data, fold, workers and code version; equal digests are the same training.
        name: `phase/experiment` or `phase/experiment-NN`, for people.
        phase, experiment: ids of where it stands first.
        config: the whole detector config, the seed included.
        fold: index of the fold that is left out of training, or None for the whole training set.
        workers: DDP ranks; it changes the effective batch, so it is part of the identity.
        resources: per worker.
        settings: dotted keys that differ from the plan's defaults, for tables.
        max_epochs: the trial's own budget, `config.max_epochs`.
    """

    digest: str
    name: str
    phase: str
    experiment: str
    config: Config
    fold: int | None = None
    workers: int = 1
    resources: Resources = Resources()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asha:
    """Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934): rungs at grace x eta^k epochs."""

    grace: int
    eta: int


@dataclass(frozen=True, slots=True)
class Effect:
    """An expected effect on a statistic, as an inclusive range; `relative` to the baseline or an absolute score."""

    stat: Stat
    low: float
    high: float
    relative: bool


@dataclass(frozen=True, slots=True)
class Top:
    """`top(SCOPE, COUNT)`: the best finished trials of a phase, of an experiment `phase.experiment`, or of `all`."""

    scope: str
    count: int


@dataclass(frozen=True, slots=True)
class Derive:
    """Trials that are known once their source is: `from: top(...)`, each repeated over folds and seeds."""

    source: Top
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    changes: Mapping[str, Any]

    @property
    def repeats(self) -> tuple[tuple[int | None, int | None], ...]:
        """(fold, seed) of each training upon one source; None leaves the source's own."""
        return tuple(product(self.folds or (None,), self.seeds or (None,)))


@dataclass(frozen=True, slots=True)
class Proposals:
    """A sweep whose trials are made while it runs, each from what is known by then (`search: tpe`).

    Attributes:
        sweep: 16 hex digits over all that a proposal depends on; the ledger keeps them under it.
        trials: of the whole sweep.
        starts: the first so many are drawn at random when the plan is read.
        candidates: points that each proposal is the most promising of.
        seed: of draws and proposals.
        space: as written, dotted keys.
        base: nested settings that every point is laid upon.
        max_epochs: the most that a trial can have.
        stand_ins: what a random search would draw after the starts, for forecasts; their digests are no trials'.
    """

    sweep: str
    trials: int
    starts: int
    candidates: int
    seed: int
    space: Mapping[str, Any]
    base: Mapping[str, Any]
    max_epochs: int
    stand_ins: tuple[Trial, ...]


@dataclass(frozen=True, slots=True)
class ThresholdSearch:
    """Post-processing searched offline, on cached maps. `of`: an experiment's id or a `Top`."""

    of: str | Top
    rules: tuple[Postprocess, ...]


@dataclass(frozen=True, slots=True)
class EnsembleSpec:
    """Members whose maps are fused, or one model's views. `pool` names the candidates; at most `max_members` enter.

    The first of the `views` is taken, the others and learned weights only where they surely gain. Soups of the pool's
    trials are candidates beside them or in their place.
    """

    pool: Top | tuple[str, ...]
    views: tuple[str, ...]
    max_members: int
    rules: tuple[Postprocess, ...]
    fusion: Literal["mean", "geometric", "logit"] = "mean"
    weights: WeightsWay = "equal"
    soups: SoupsWay = "none"

    @property
    def least(self) -> int:
        """Finished models that it takes: of one in a single view there is nothing to fuse or to choose."""
        return 1 if len(self.views) > 1 or self.soups != "none" else 2


@dataclass(frozen=True, slots=True)
class Experiment:
    """One row of the roadmap.

    Exactly one of these holds: `trials` is not empty (known now), `derive` is set (known after its source has run),
    `thresholds` is set, `ensemble` is set. With `proposals`, `trials` are those known so far, in their order.
    """

    id: str
    phase: str
    what: str
    priority: int
    trials: tuple[Trial, ...] = ()
    asha: Asha | None = None
    proposals: Proposals | None = None
    derive: Derive | None = None
    thresholds: ThresholdSearch | None = None
    ensemble: EnsembleSpec | None = None
    expect: tuple[Effect, ...] = ()
    cost_gpu_h: float | None = None
    why: str = ""
    oof: bool = False  # score the training pages out-of-fold, once each fold has a model

    @property
    def kind(self) -> Literal["train", "derive", "thresholds", "ensemble"]:
        if self.thresholds is not None:
            return "thresholds"
        if self.ensemble is not None:
            return "ensemble"
        return "derive" if self.derive is not None else "train"

    @property
    def unproposed(self) -> tuple[Trial, ...]:
        """Stand-ins for the trials that are still to be proposed."""
        rule = self.proposals
        return () if rule is None else rule.stand_ins[max(0, len(self.trials) - rule.starts) :]


def derived_name(experiment: Experiment, rank: int, fold: int | None, seed: int | None) -> str:
    """The name of one trial of a `from:` experiment; `rank` counts its sources from 1, best first."""
    several = experiment.derive is not None and experiment.derive.source.count > 1
    parts = [f"{experiment.phase}/{experiment.id}"]
    parts += [f"top{rank}"] if several else []
    parts += [f"fold{fold}"] if fold is not None else []
    parts += [f"seed{seed}"] if seed is not None else []
    return "-".join(parts)


TARGET = "target"  # the expression of a gate that has no condition of its own


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether the roadmap goes on: `ci_low(best - baseline) > 0` and the like, or `TARGET`: the target is reached."""

    expression: str
    otherwise: Literal["ask", "continue", "stop"]


@dataclass(frozen=True, slots=True)
class Phase:
    """Experiments in the order of their priority, and what they are held against."""

    id: str
    what: str
    needs: tuple[str, ...]
    experiments: tuple[Experiment, ...]
    target: Mapping[Stat, float]
    gate: Gate | None = None


@dataclass(frozen=True, slots=True)
class Study:
    """A plan, expanded.

    Attributes:
        workspace: the folder of all state of this roadmap.
        datasets: None where only facts were asked for, or on a machine that does not have the data.
        baseline: the author's reference scores.
        source: text of the plan file; `resolved`: the plan after `extends`, `--set` and `${env:...}`, as plain data.
        warnings: what is allowed but may mislead, each with its place in the plan.
        budget_gpu_h, deadline: the author's limits; the deadline is ISO 8601 with its offset.
        data: what is known of the pages; None while the data is not there, and digests are provisional.
        retries: how often a trial is started again after a failure that may not come again.
    """

    roadmap: str
    plan_path: Path
    workspace: Path
    phases: tuple[Phase, ...]
    baseline: Mapping[Stat, float]
    datasets: Datasets | None
    concurrent: int | None
    source: str
    resolved: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    budget_gpu_h: float | None = None
    deadline: str | None = None
    data: DataFacts | None = None
    retries: int = 2
