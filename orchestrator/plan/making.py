"""Phases and experiments of a plan as those of a study: settings resolved, sweeps drawn, rules spelled out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from detector.config import Postprocess
from orchestrator.errors import Fault
from orchestrator.plan import advice, points, space, twins
from orchestrator.plan.datasets import DataFacts
from orchestrator.plan.faults import message_of
from orchestrator.plan.proposals import proposals_of
from orchestrator.plan.references import all_folds
from orchestrator.plan.schema import ExperimentSpec, PhaseSpec, Plan, RuleSpec
from orchestrator.plan.settings import TrialSettings, flat, nested, overlay, validate
from orchestrator.plan.study import (
    TARGET,
    Asha,
    Derive,
    EnsembleSpec,
    Experiment,
    Gate,
    Phase,
    Proposals,
    ThresholdSearch,
    Top,
    Trial,
)
from orchestrator.plan.tree import Loc
from orchestrator.plan.trials import after_grace, base_data, make_trial, swept_name

_AFTER = {"train": 0, "derive": 1, "thresholds": 2, "ensemble": 3}


class Maker:
    """Makes the phases of one plan; `faults` and `warnings` gather on the way."""

    def __init__(self, plan: Plan, data: DataFacts | None) -> None:
        self.plan, self.data = plan, data
        self.tree = plan.origin.tree
        self.names = plan.origin.names
        self.base_data = base_data(self.tree.plain())
        self.base = validate(self.base_data)
        self.base_flat = flat(self.base.model_dump(mode="json"))
        self.faults: list[Fault] = []
        self.warnings: list[str] = []
        self.made: list[tuple[Trial, Loc]] = []
        self.asked: list[tuple[Derive | ThresholdSearch | EnsembleSpec, str, Loc]] = []
        self.baseline = self._baseline()

    def _baseline(self) -> TrialSettings:
        """Settings of the experiment named `baseline`, which the others are compared with, else the defaults."""
        specs = [spec for phase in self.plan.phases for spec in phase.experiments if spec.id == "baseline"]
        changes = specs[0].changes if specs and specs[0].source is None and specs[0].sweep is None else {}
        return validate(overlay(self.base_data, changes))

    def phase(self, spec: PhaseSpec) -> Phase:
        # `--only` shifts the indices of the plan, not those of the tree.
        home = self.tree.by_id(("phases",), spec.id)
        experiments = [
            self.experiment(spec, child, self.tree.by_id((*home, "experiments"), child.id))
            for child in spec.experiments
        ]
        return Phase(
            id=spec.id,
            what=spec.what,
            needs=spec.needs,
            experiments=in_order(experiments),
            target=spec.target.given(),
            gate=Gate(spec.gate.condition or TARGET, spec.gate.otherwise) if spec.gate is not None else None,
        )

    def experiment(self, phase: PhaseSpec, spec: ExperimentSpec, loc: Loc) -> Experiment:
        trials: tuple[Trial, ...] = ()
        asha: Asha | None = None
        proposals: Proposals | None = None
        derive = thresholds = ensemble = None
        if spec.source is not None:
            seeds = spec.seeds or ()
            derive = Derive(self.names.scope(spec.source), self.folds(spec), seeds, nested(flat(spec.changes)))
            self.asked.append((derive, f"{phase.id}.{spec.id}", loc))
        elif spec.thresholds is not None:
            of = spec.thresholds.of
            source = self.names.scope(of) if isinstance(of, Top) else of
            thresholds = ThresholdSearch(source, self.rules(spec.thresholds))
            self.asked.append((thresholds, f"{phase.id}.{spec.id}", loc))
            self.warnings += advice.rules_left_out(self.plan, spec.thresholds, (*loc, "thresholds"), self.baseline)
        elif spec.ensemble is not None:
            pool = spec.ensemble.pool
            candidates = self.names.scope(pool) if isinstance(pool, Top) else pool
            views, most = tuple(dict.fromkeys(spec.ensemble.views)), spec.ensemble.max_members
            ways = (spec.ensemble.fusion, spec.ensemble.weights, spec.ensemble.soups)
            ensemble = EnsembleSpec(candidates, views, most, self.rules(spec.ensemble), *ways)
            self.asked.append((ensemble, f"{phase.id}.{spec.id}", loc))
            self.warnings += advice.rules_left_out(self.plan, spec.ensemble, (*loc, "ensemble"), self.baseline)
        else:
            trials, asha = self.trials(phase, spec, loc)
            if spec.sweep is not None and len(trials) == spec.sweep.trials:
                proposals = proposals_of(spec.sweep, trials, overlay(self.base_data, spec.changes), self.data)
            known = trials if proposals is None else trials[: proposals.starts]
            seen: set[str] = set()
            for place, trial in enumerate(trials):  # points that are one training are told, even if not yet certain
                if place < len(known) or trial.digest in seen:
                    self.made.append((trial, loc))
                seen.add(trial.digest)
            trials = known
        return Experiment(
            id=spec.id,
            phase=phase.id,
            what=spec.what,
            priority=spec.priority,
            trials=trials,
            asha=asha,
            proposals=proposals,
            derive=derive,
            thresholds=thresholds,
            ensemble=ensemble,
            expect=spec.expect,
            cost_gpu_h=spec.cost,
            why=spec.why,
            oof=spec.oof is not False and all_folds(self.plan, spec),
        )

    def folds(self, spec: ExperimentSpec) -> tuple[int, ...]:
        if spec.folds == "all":
            return tuple(range(self.plan.data.folds.k)) if self.plan.data.folds is not None else ()
        return spec.folds or ()

    def rules(self, spec: RuleSpec) -> tuple[Postprocess, ...]:
        """Every combination of the values given, upon the defaults' post-processing.

        Each of `unclip_ratio` and `shrink_ratio` means its own way to unclip; with both, both ways are tried.
        """
        base = self.base.postprocess
        unclips: list[dict[str, Any]] = [
            *({"unclip": "ratio", "unclip_ratio": value} for value in spec.unclip_ratio or ()),
            *({"unclip": "inverse", "shrink_ratio": value} for value in spec.shrink_ratio or ()),
        ]
        columns = (
            spec.thresh or (base.thresh,),
            unclips or [{}],
            spec.shape or (base.shape,),
            spec.box_thresh or (base.box_thresh,),
        )
        return tuple(
            base.model_copy(update={"thresh": thresh, "box_thresh": box, "shape": shape, **unclip})
            for thresh, unclip, shape, box in product(*columns)
        )

    def trials(self, phase: PhaseSpec, spec: ExperimentSpec, loc: Loc) -> tuple[tuple[Trial, ...], Asha | None]:
        drawn, sweep = self.points(spec, loc), spec.sweep is not None
        trials: list[Trial] = []
        for index, point in enumerate(drawn):
            data = overlay(overlay(self.base_data, spec.changes), nested(point))
            for fold, seed in product(self.folds(spec) or (None,), spec.seeds or (None,)):
                settings = self.settings(data if seed is None else data | {"seed": seed}, loc, point)
                if settings is None:
                    continue
                parts = [swept_name(phase.id, spec.id, index, len(drawn)) if sweep else f"{phase.id}/{spec.id}"]
                parts += [f"fold{fold}"] if fold is not None else []
                parts += [f"seed{seed}"] if seed is not None else []
                trials.append(self.trial("-".join(parts), phase.id, spec.id, settings, fold))
        if spec.sweep is None or not trials:
            return tuple(trials), None
        self.warnings += advice.left_out(self.plan, spec.sweep, (*loc, "sweep", "space"), self.baseline)
        rule = advice.stopping(spec.sweep, len(trials), max(trial.config.max_epochs for trial in trials))
        self.warnings += [advice.place(self.plan, (*loc, "sweep", "stop"), message) for message in rule.warnings]
        trials = [after_grace(trial, rule.asha, self.data, self.base_flat) for trial in trials]
        for key, doubt in advice.searching(self.plan, spec.sweep):
            self.warnings.append(advice.place(self.plan, (*loc, "sweep", key), doubt))
        return tuple(trials), rule.asha

    def points(self, spec: ExperimentSpec, loc: Loc) -> list[Mapping[str, Any]]:
        """The settings that a sweep adds to each of its trials; one empty point without a sweep."""
        if spec.sweep is None:
            return [{}]
        axes = space.axes_of(spec.sweep.space)
        if spec.sweep.trials is None:
            return [drawn.point for drawn in points.grid(axes)]
        try:
            return [drawn.point for drawn in points.draw(axes, spec.sweep.trials, spec.sweep.seed)]
        except ValueError as error:
            place = (*loc, "sweep", "space")
            self.faults.append(self.tree.near(place).mark.fault(place, str(error)))
            return []

    def settings(self, data: Mapping[str, Any], loc: Loc, point: Mapping[str, Any]) -> TrialSettings | None:
        try:
            return validate(data)
        except ValidationError as error:
            place = (*loc, "sweep", "space") if point else loc
            drawn = ", ".join(f"{key}={value}" for key, value in point.items())
            self.faults.append(self.tree.near(place).mark.fault(place, f"{message_of(error)}; drawn: {drawn}"))
            return None

    def trial(self, name: str, phase: str, experiment: str, settings: TrialSettings, fold: int | None) -> Trial:
        return make_trial(name, phase, experiment, settings, fold, self.data, self.base_flat)

    def doubt_soups(self) -> None:
        """Ensembles that ask for soups where no training makes one."""
        asked = [(loc, rule) for rule, _, loc in self.asked if isinstance(rule, EnsembleSpec) and rule.soups != "none"]
        derived = [rule.changes for rule, _, _ in self.asked if isinstance(rule, Derive)]
        some = any(trial.config.keep_epochs for trial, _ in self.made) or any("keep_epochs" in one for one in derived)
        if some or self.names.outside:
            return
        for loc, rule in asked:
            message = f"`soups: {rule.soups}` finds none: no training here has `keep_epochs`; add `keep_epochs: 5`"
            self.warnings.append(advice.place(self.plan, (*loc, "ensemble", "soups"), f"{message} to `defaults`"))

    def refuse_twins(self) -> None:
        """Two trials of one digest are one training under two names: a lost key, mostly."""
        first: dict[str, tuple[Trial, Loc]] = {}
        for trial, loc in self.made:
            if trial.digest not in first:
                first[trial.digest] = (trial, loc)
                continue
            twin, _ = first[trial.digest]
            shown = ", ".join(f"{key}={value}" for key, value in trial.settings.items()) or "the defaults"
            self.faults.append(
                self.tree.near(loc).mark.fault(
                    loc, f"{trial.name} is the same training as {twin.name} ({shown}); change a setting or remove one"
                )
            )
        pages = {} if self.data is None else {t.digest: self.data.pages_of(t.fold) for t, _ in self.made}
        for loc, message in twins.twins(self.made, pages):
            self.faults.append(self.tree.near(loc).mark.fault(loc, message))
        for loc, message in (*twins.same_networks(self.made, pages), *twins.without_effect(self.made)):
            self.warnings.append(advice.place(self.plan, loc, message))
        for index, (wanted, name, loc) in enumerate(self.asked):
            others = [other for known, other, _ in self.asked[:index] if known == wanted]
            if others:
                message = f"{name} asks for the same as {others[0]}; change something or remove one"
                self.faults.append(self.tree.near(loc).mark.fault(loc, message))


def in_order(experiments: Sequence[Experiment]) -> tuple[Experiment, ...]:
    """By priority, but never before what an experiment draws on in its own phase; then trainings first."""
    by_id = {experiment.id: experiment for experiment in experiments}
    effective: dict[str, int] = {}

    def rank(experiment: Experiment, trail: tuple[str, ...] = ()) -> int:
        if experiment.id not in effective:
            sources = [by_id[name] for name in _sources(experiment, experiments) if name not in trail]
            most = max((rank(source, (*trail, experiment.id)) for source in sources), default=0)
            effective[experiment.id] = max(experiment.priority, most)
        return effective[experiment.id]

    return tuple(sorted(experiments, key=lambda experiment: (rank(experiment), _AFTER[experiment.kind])))


def _sources(experiment: Experiment, experiments: Sequence[Experiment]) -> set[str]:
    """Ids of the experiments of its own phase that it may draw on."""
    if experiment.kind == "train":
        return set()
    drawn: list[str | Top] = []
    if experiment.derive is not None:
        drawn.append(experiment.derive.source)
    if experiment.thresholds is not None:
        drawn.append(experiment.thresholds.of)
    if experiment.ensemble is not None:
        pool = experiment.ensemble.pool
        drawn += [pool] if isinstance(pool, Top) else list(pool)
    found: set[str] = set()
    for item in drawn:
        scope = item.scope if isinstance(item, Top) else item
        for other in experiments:
            whole = isinstance(item, Top) and scope in ("all", experiment.phase)
            named = scope in (other.id, f"{other.phase}.{other.id}")
            if other is not experiment and (named or (whole and _AFTER[other.kind] < _AFTER[experiment.kind])):
                found.add(other.id)
    return found
