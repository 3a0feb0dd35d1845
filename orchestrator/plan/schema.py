"""The plan file as frozen pydantic models: every key, its meaning, its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, PrivateAttr, field_validator, model_validator

from orchestrator.plan.names import Names
from orchestrator.plan.schema_data import DataSpec, Part
from orchestrator.plan.spelling import nearest
from orchestrator.plan.study import SoupsWay, Stat, WeightsWay
from orchestrator.plan.tree import Tree
from orchestrator.plan.values import (
    STATS,
    Condition,
    Cost,
    Deadline,
    Effects,
    Folds,
    Fractions,
    Identity,
    Of,
    Pool,
    Ratios,
    Score,
    Seeds,
    Shapes,
    Shrinks,
    TopText,
    View,
)


class MetricSpec(Part):
    """What validation measures, early stopping watches and trials are compared by."""

    name: Literal["hmean"] = Field("hmean", description="what early stopping and ASHA watch")
    aggregate: Literal["macro", "micro"] = Field("macro", description="mean of per-image scores, or summed counts")
    variant: Literal["competition", "official"] = Field("competition", description="CLEval's rules")

    @field_validator("name", mode="before")
    @classmethod
    def _reported(cls, value: Any) -> Any:
        if value != "hmean":
            hint = "it is reported, but not watched" if value in STATS else "no training reports it"
            raise ValueError(f"`hmean` is what early stopping and ASHA can watch, got {value!r} ({hint}); write hmean")
        return value


class Scores(Part):
    """Scores in 0..1."""

    hmean: Score | None = Field(None, description="H")
    precision: Score | None = Field(None, description="P")
    recall: Score | None = Field(None, description="R")

    def given(self) -> dict[Stat, float]:
        """Those that the author wrote."""
        return {stat: value for stat in STATS if (value := getattr(self, stat)) is not None}


class SubmissionBudget(Part):
    """How many files a leaderboard takes."""

    total: int | None = Field(None, ge=1, description="files in all")
    per_day: int | None = Field(None, ge=1, description="files a day, by this machine's clock")
    public_images: int | None = Field(
        None, ge=1, description="test images that the public score is of; default: all of the file's"
    )


class BudgetSpec(Part):
    """Limits of the whole plan."""

    gpu_hours: Annotated[float, Field(gt=0)] | None = Field(None, description="GPU-hours at most")
    deadline: Deadline = Field(None, description="ISO 8601 with offset; nothing starts that cannot end before")
    submissions: SubmissionBudget | None = Field(None, description="what `submissions list` counts against")


class AshaSpec(Part):
    """Rungs at grace x eta^k epochs."""

    grace: int | None = Field(None, ge=1, description="epochs before the first cut; default max(3, max_epochs / 4)")
    eta: int = Field(2, ge=2, description="one of eta trials goes on")


class StopSpec(Part):
    """`none`, `asha`, or `{asha: {grace: 5, eta: 2}}`."""

    asha: AshaSpec | None = Field(None, description="successive halving within the sweep")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if value in ("none", "asha"):
            return {} if value == "none" else {"asha": {}}
        if isinstance(value, Mapping) and set(value) == {"asha"}:
            return {"asha": {} if value["asha"] is None else value["asha"]}
        raise ValueError(f"`none`, `asha` or {{asha: {{grace: 5, eta: 2}}}} expected, got {value!r}")


class TpeSpec(Part):
    """Tree-structured Parzen estimators of Optuna: where good trials are dense and others are not."""

    model_config = ConfigDict(title="Tpe")
    starts: int | None = Field(
        None, ge=1, description="random trials before the first proposal; default 2 for each setting and 2, at most 10"
    )
    candidates: int = Field(24, ge=1, le=10_000, description="points that each proposal is the most promising of")


class SearchSpec(Part):
    """`random`, `grid`, `tpe`, or `{tpe: {starts: 6, candidates: 24}}`."""

    kind: Literal["random", "grid", "tpe"] = Field(description="how trials are found")
    tpe: TpeSpec | None = Field(None, description="each trial is proposed from the results of those before it")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, value: Any) -> Any:
        if value in ("random", "grid", "tpe"):
            return {"kind": value} | ({"tpe": {}} if value == "tpe" else {})
        if isinstance(value, Mapping) and set(value) == {"tpe"}:
            return {"kind": "tpe", "tpe": {} if value["tpe"] is None else value["tpe"]}
        hint = nearest(value, ("random", "grid", "tpe")) if isinstance(value, str) else ""
        hint = hint if "did you mean" in hint else ""
        raise ValueError(f"`random`, `grid`, `tpe` or {{tpe: {{starts: 6}}}} expected, got {value!r}{hint}")


class SweepSpec(Part):
    """A search over settings: known when the plan is read, or (`search: tpe`) proposed while it runs."""

    space: dict[str, Any] = Field(
        description='setting -> "uniform(a, b)", "loguniform(a, b)", a..b, a..b step s, a list of choices; or one of '
        "{by: SETTING, values: {CASE: ...}} and {values: ..., times: SETTING}"
    )
    trials: int | None = Field(None, ge=1, le=10_000, description="how many; without it, the whole grid")
    search: SearchSpec | None = Field(
        None, description="default: `random` with `trials`, else `grid`; `tpe` learns from the trials before"
    )
    seed: int = Field(0, ge=0, description="of the draws and proposals")
    stop: StopSpec | None = Field(
        None, description="default: ASHA above 8 trials and 6 epochs where it does not mislead"
    )


class RuleSpec(Part):
    """Post-processing values to try; those not given keep the defaults' value."""

    thresh: Fractions | None = Field(None, description="number, list, or range with step 0.05 if none is given")
    box_thresh: Fractions | None = Field(None, description="number, list, or range with step 0.05 if none is given")
    unclip_ratio: Ratios | None = Field(None, description="number, list, or range with step 0.1 if none is given")
    shrink_ratio: Shrinks | None = Field(
        None, description="the same for unclip: inverse; beside unclip_ratio both ways are tried; step 0.05"
    )
    shape: Shapes | None = Field(None, description="quad, polygon, or a list of both")


class ThresholdSpec(RuleSpec):
    """Post-processing searched on cached maps, cross-fitted."""

    of: Of = Field(description="the experiment whose trials are searched, or top(SCOPE, COUNT)")


class EnsembleSettings(RuleSpec):
    """Probability maps of several members, or of one model's views, fused in one frame."""

    model_config = ConfigDict(title="Ensemble")
    pool: Pool = Field(description="candidates: top(SCOPE, COUNT) or experiment ids; one model takes `views`")
    views: tuple[View, ...] = Field(
        ("identity",),
        min_length=1,
        description="each is inverted exactly, then averaged; others than the first stay only where they surely gain",
    )
    max_members: int = Field(6, ge=1, le=64, description="members at most; 1 chooses views for the best alone")
    fusion: Literal["mean", "geometric", "logit"] = Field(
        "mean", description="of the members' maps, weighted: arithmetic, geometric or log-odds mean"
    )
    weights: WeightsWay = Field(
        "equal",
        description="equal, or learned (greedy, simplex; auto tries both) and kept only where they surely gain",
    )
    soups: SoupsWay = Field(
        "none",
        description="the soups of trials with `keep_epochs`: candidates `beside` the trials, or `instead` of them, "
        "which costs nothing at inference",
    )


class ExperimentSpec(Part):
    """One row of the roadmap: a training by `set`, or one of `sweep`, `from`, `thresholds`, `ensemble`."""

    id: Identity = Field(description="unique in the plan file")
    what: str = Field("", description="one line for tables")
    why: str = Field("", description="the reasoning, for the report")
    priority: int = Field(1, ge=1, le=1000, description="1 runs first")
    expect: Effects = Field((), description="+0.003..+0.005 relative to the baseline; 0.98..0.981 or >= 0.982 absolute")
    cost: Cost = Field(None, description="GPU-hours for the whole experiment: 4h, 90min, 1.5")
    changes: dict[str, Any] = Field({}, alias="set", description="settings that differ from `defaults`")
    folds: Folds | None = Field(None, description="one training for each: `all` or a list")
    seeds: Seeds | None = Field(None, description="one training for each")
    oof: bool | None = Field(
        None,
        description="score every training page by the models without its fold; default: where all folds are trained",
    )
    sweep: SweepSpec | None = Field(None, description="search over settings")
    source: TopText | None = Field(None, alias="from", description="retrain the best: top(phase2, 1)")
    thresholds: ThresholdSpec | None = Field(None, description="search of the post-processing")
    ensemble: EnsembleSettings | None = Field(None, description="average of several models")


class GateSpec(Part):
    """Whether the roadmap goes on after a phase."""

    condition: Condition | None = Field(
        None, alias="pass", description="such as ci_low(best - baseline) > 0; without it: the phase's target is reached"
    )
    otherwise: Literal["ask", "continue", "stop"] = Field(
        "ask",
        description="where it does not hold: ask a person whether what needs this phase runs, stop it, or continue",
    )


class PhaseSpec(Part):
    """Experiments that are held against one target."""

    id: Identity = Field(description="unique in the roadmap")
    what: str = Field("", description="one line for tables")
    needs: tuple[Identity, ...] = Field((), description="phases before this one, here or in another file")
    target: Scores = Field(Scores(), description="scores to reach")
    experiments: tuple[ExperimentSpec, ...] = Field(min_length=1, description="rows of the roadmap")
    gate: GateSpec | None = Field(None, description="whether the roadmap goes on")


@dataclass(frozen=True)
class Origin:
    """Where a plan came from: for messages, for the record, and for `--only`."""

    path: Path
    source: str
    tree: Tree
    names: Names  # all of them, before `--only`


class Plan(Part):
    """A roadmap, or a part of one: several plan files may share the name."""

    roadmap: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60, description="ledger and MLflow experiment"
    )
    what: str = Field("", description="the question that the plan answers")
    metric: MetricSpec = Field(MetricSpec(), description="what is measured")
    baseline: Scores = Field(Scores(), description="the author's reference scores")
    data: DataSpec = Field(description="pages to learn from, to score on and to submit")
    budget: BudgetSpec = Field(BudgetSpec(), description="limits")
    defaults: dict[str, Any] = Field({}, description="settings of every training")
    seed: int = Field(0, ge=0, description="seed of every training that sets none")
    concurrent: int | None = Field(None, ge=1, description="trials at once; default: what the cluster holds")
    retries: int = Field(
        2, ge=0, le=100, description="how often a trial goes on from its last epoch after a lost process, GPU or disk"
    )
    workspace: str | None = Field(
        None, min_length=1, description="folder of all state, or s3://bucket/prefix; default ./workspace/<roadmap>"
    )
    phases: tuple[PhaseSpec, ...] = Field(min_length=1, description="in any order; `needs` decides")

    _origin: Origin = PrivateAttr()

    @property
    def origin(self) -> Origin:
        return self._origin
