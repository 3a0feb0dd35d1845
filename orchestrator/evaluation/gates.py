"""Hypotheses, target and gate of a phase, decided with their numbers.

The rules, all on macro means over the common validation images:

- The *baseline* is the best trial of the experiment with the id `baseline` in this phase, else in the nearest phase
  before. Without one the plan's numeric `baseline:` gives a difference, but no interval: such claims stay undecided.
- An experiment is scored by its best trial (of k, which is named: the best of many looks better by luck), one with
  `from:` or `folds:` by the mean over its folds and seeds, thresholds and ensembles by their cross-fitted scores. So a
  claim about an ensemble includes what its thresholds add; what fusing alone adds is the result's own `gain`.
- A *relative effect* `low..high` is measured as the paired difference to the baseline with its 95 % interval.
  With low > 0: confirmed if the interval lies above 0 and reaches `low`; refuted if it ends below `low`.
  With low <= 0 (it must not cost more than ...): confirmed if the interval begins at `low` or above; refuted if it ends
  below `low`. Otherwise undecided. More than `high` is no fault.
- An *absolute effect* (a score) is held against the interval of the score itself: confirmed if it begins at `low` or
  above, refuted if it ends below `low`, else undecided.
- An experiment is refuted if one of its effects is, confirmed if all are, else undecided; without effects it has no
  verdict. So has one that could not be scored, and that says why.
- A *target* is held against the interval of the phase's best (highest H): passed if it begins at the target or above,
  failed if it ends below, else undecided.
- The *gate* is a condition of the plan's closed grammar: passed, failed, or undecided where one of its quantities does
  not exist. `ci_low`, `ci_high` and `mean` of an expression over images use H unless a statistic is named. A gate
  without a condition is the target's: passed if all of it is, failed if one part is.
- An interval on fewer than `LEAST_IMAGES` images decides nothing: what needs it is undecided, and says so.
- A person's *answer* to a gate that asks counts as long as the gate's numbers are those that it was given on.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from orchestrator.evaluation.answers import standing
from orchestrator.evaluation.decisions import (
    Decision,
    EffectOutcome,
    GateOutcome,
    Outcome,
    State,
    TargetOutcome,
    Verdict,
    joint,
    target_text,
)
from orchestrator.evaluation.gate_values import Candidate, holds, too_few
from orchestrator.evaluation.scores import STATS, Board
from orchestrator.evaluation.statistics import Interval, bootstrap, paired_bootstrap
from orchestrator.evaluation.tuned import Tuned
from orchestrator.plan.conditions import gate as parse_gate
from orchestrator.plan.study import TARGET, Effect, Experiment, Phase, Stat, Study

BASELINE: Final = "baseline"
_GATE_STATES: Final[Mapping[bool | None, State]] = {
    True: "passed",
    False: "failed",
    None: "undecided",
}


def decide(phase: Phase, study: Study, board: Board, results: Sequence[Tuned]) -> Decision:
    """Hold every experiment of a phase against what its author expected, and the phase against its target and gate."""
    tuned = {(result.phase, result.experiment): result for result in results}
    candidates = _candidates(study, phase, board, tuned)
    baseline = _baseline(study, phase, candidates)
    here = [candidates[item.phase, item.id] for item in phase.experiments if (item.phase, item.id) in candidates]
    best = max(here, key=lambda candidate: candidate.mean("hmean"), default=None)
    outcomes = tuple(
        _outcome(item, candidates.get((item.phase, item.id)), baseline, study) for item in phase.experiments
    )
    targets = tuple(_target(stat, wanted, best) for stat, wanted in phase.target.items())
    return Decision(
        phase.id,
        baseline.name if baseline else None,
        best.name if best else None,
        {stat: best.mean(stat) for stat in STATS} if best else None,
        outcomes,
        targets,
        _gate(phase, study, targets, candidates, baseline, best),
    )


def _candidates(
    study: Study, phase: Phase, board: Board, tuned: Mapping[tuple[str, str], Tuned]
) -> dict[tuple[str, str], Candidate]:
    """What there is to compare, from the first phase up to this one; experiments without a score are not in it."""
    found: dict[tuple[str, str], Candidate] = {}
    for part in study.phases:
        for item in part.experiments:
            candidate = _candidate(item, board, tuned.get((item.phase, item.id)))
            if candidate is not None:
                found[item.phase, item.id] = candidate
        if part.id == phase.id:
            break
    return found


def _candidate(experiment: Experiment, board: Board, result: Tuned | None) -> Candidate | None:
    name = f"{experiment.phase}/{experiment.id}"
    if experiment.kind in ("thresholds", "ensemble"):
        if result is None:
            return None
        return Candidate(name, {stat: result.crossfitted.stat_N(stat) for stat in STATS}, result.searched)
    finished = board.ranked(experiment.trials)
    if not finished:
        return None
    scores = [board.scores[trial.digest] for trial in finished]
    if experiment.kind == "derive" or all(trial.fold is not None for trial in experiment.trials):
        return Candidate(name, {s: np.mean([score.stat_N(s) for score in scores], axis=0) for s in STATS}, 1)
    return Candidate(finished[0].name, {stat: scores[0].stat_N(stat) for stat in STATS}, len(finished))


def _baseline(study: Study, phase: Phase, candidates: Mapping[tuple[str, str], Candidate]) -> Candidate | None:
    before = [part.id for part in study.phases[: [part.id for part in study.phases].index(phase.id) + 1]]
    found = [candidates[part, BASELINE] for part in reversed(before) if (part, BASELINE) in candidates]
    return found[0] if found else None


def _outcome(item: Experiment, candidate: Candidate | None, baseline: Candidate | None, study: Study) -> Outcome:
    if candidate is None:
        why = "no trial finished" if item.kind in ("train", "derive") else "no finished trials to build it from"
        return Outcome(item.id, item.what, item.kind, None, None, 0, None, (), None, why)
    effects = tuple(_effect(effect, candidate, baseline, study) for effect in item.expect)
    difference = None
    if baseline is not None and baseline.name != candidate.name:
        difference = _difference(candidate, baseline, "hmean")
    scores = {stat: candidate.mean(stat) for stat in STATS}
    note = f"best of {candidate.among}" if item.kind == "train" and candidate.among > 1 else ""
    verdict = _joint(effects)
    return Outcome(
        item.id, item.what, item.kind, candidate.name, scores, candidate.among, difference, effects, verdict, note
    )


def _joint(effects: Sequence[EffectOutcome]) -> Verdict | None:
    verdicts = {effect.verdict for effect in effects}
    if not verdicts:
        return None
    if "refuted" in verdicts:
        return "refuted"
    return "confirmed" if verdicts == {"confirmed"} else "undecided"


def _effect(effect: Effect, candidate: Candidate, baseline: Candidate | None, study: Study) -> EffectOutcome:
    if not effect.relative:
        interval = bootstrap(candidate.stats[effect.stat])
        return _measured(effect, interval, "score on these images")
    if baseline is not None:
        return _measured(effect, _difference(candidate, baseline, effect.stat), f"against {baseline.name}")
    if effect.stat in study.baseline:
        measured = candidate.mean(effect.stat) - study.baseline[effect.stat]
        why = f"against the plan's figure {study.baseline[effect.stat]:.4f}, which has no interval"
        return EffectOutcome(effect, measured, None, "undecided", why)
    return EffectOutcome(effect, None, None, "undecided", "no experiment `baseline` and no figure to hold it against")


def _measured(effect: Effect, interval: Interval, why: str) -> EffectOutcome:
    why = why if interval.enough else f"{why}; {too_few(interval.count)}"
    return EffectOutcome(effect, interval.mean, interval, verdict_of(effect, interval), why)


def verdict_of(effect: Effect, interval: Interval) -> Verdict:
    """The rule at the top of this module, for one effect."""
    if not interval.enough:
        return "undecided"
    if interval.high < effect.low:
        return "refuted"
    proven = interval.low > 0 if effect.relative and effect.low > 0 else interval.low >= effect.low
    return "confirmed" if proven else "undecided"


def _difference(candidate: Candidate, baseline: Candidate, stat: Stat) -> Interval:
    return paired_bootstrap(candidate.stats[stat], baseline.stats[stat])


def _target(stat: Stat, wanted: float, best: Candidate | None) -> TargetOutcome:
    if best is None:
        return TargetOutcome(stat, wanted, None, None, "undecided")
    interval = bootstrap(best.stats[stat])
    state: State = "undecided"
    if interval.enough:
        state = "passed" if interval.low >= wanted else "failed" if interval.high < wanted else "undecided"
    return TargetOutcome(stat, wanted, interval.mean, interval, state)


def _gate(
    phase: Phase,
    study: Study,
    targets: Sequence[TargetOutcome],
    candidates: Mapping[tuple[str, str], Candidate],
    baseline: Candidate | None,
    best: Candidate | None,
) -> GateOutcome | None:
    if phase.gate is None:
        return None
    if phase.gate.expression == TARGET:
        state, numbers = joint([target.state for target in targets]), "; ".join(map(target_text, targets))
    else:
        named: dict[str, Candidate | Mapping[Stat, float]] = {f"{p}.{e}": c for (p, e), c in candidates.items()}
        named |= {item: c for (part, item), c in candidates.items() if part == phase.id}
        if best is not None:
            named["best"] = best
        if phase.target:
            named["target"] = phase.target
        if baseline is not None or study.baseline:
            named[BASELINE] = baseline if baseline is not None else study.baseline
        found, numbers = holds(parse_gate(phase.gate.expression), named)
        state = _GATE_STATES[found]
    asks = state != "passed" and phase.gate.otherwise == "ask"
    answer = standing(study.workspace, phase.id, phase.gate.expression, numbers) if asks else None
    return GateOutcome(phase.gate.expression, state, phase.gate.otherwise, numbers, answer)
