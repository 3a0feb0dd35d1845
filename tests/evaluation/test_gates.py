"""Decisions on phases made by hand: verdicts, baselines, targets and gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.config import Config
from detector.metrics.cleval import Counts
from detector.types import Float64
from orchestrator.evaluation.gate_values import Candidate, holds
from orchestrator.evaluation.gates import decide, verdict_of
from orchestrator.evaluation.scores import Board, ImageScores, study_trials, top
from orchestrator.evaluation.statistics import Interval
from orchestrator.plan.conditions import gate
from orchestrator.plan.study import Derive, Effect, Experiment, Gate, Phase, Study, Top, Trial

IMAGES = 40


def trial(name: str, phase: str = "p1") -> Trial:
    return Trial(f"{phase}-{name}".ljust(16, "0"), f"{phase}/{name}", phase, name, Config())


def experiment(name: str, *effects: Effect, phase: str = "p1", trials: int = 1) -> Experiment:
    members = [trial(name if trials == 1 else f"{name}-{number:02d}", phase) for number in range(1, trials + 1)]
    return Experiment(name, phase, "", 1, tuple(members), expect=effects)


def study_of(*phases: Phase, **baseline: float) -> Study:
    return Study("r", Path("plan.yaml"), Path("w"), phases, baseline, None, None, "", {})


def phase_of(*experiments: Experiment, phase: str = "p1", **more: object) -> Phase:
    return replace(Phase(phase, "", (), experiments, {}), **more)  # type: ignore[arg-type]


def scores(values: Float64) -> ImageScores:
    """H = P = R on each image, in steps of 1 / 10,000."""
    counts = tuple(Counts(chars_gt=10_000, chars_det=10_000, chars_hit=round(10_000 * value)) for value in values)
    return ImageScores(tuple(f"{number}.png" for number in range(len(values))), counts)


def board_of(study: Study, **values: Float64) -> Board:
    """Scores of trials by the last part of their names."""
    trials = {item.digest: item for item in study_trials(study)}
    found = {
        digest: scores(values[item.name.split("/")[1]])
        for digest, item in trials.items()
        if item.name.split("/")[1] in values
    }
    return Board(found, {digest: trials[digest] for digest in found})


RANDOM = np.random.default_rng(0)
BASE = RANDOM.uniform(0.8, 0.95, IMAGES)
BETTER = BASE + RANDOM.normal(0.010, 0.005, IMAGES)  # the mean difference .010 has an SE of .0008
NOISY = BASE + RANDOM.normal(0.0, 0.03, IMAGES)  # SE .005: anything between -.01 and .01 may be true


@pytest.mark.parametrize(
    ("low", "high", "ends", "verdict"),
    [
        (0.003, 0.005, (0.001, 0.004), "confirmed"),  # surely a gain, and .003 is within reach
        (0.003, 0.005, (0.006, 0.009), "confirmed"),  # more than was expected
        (0.003, 0.005, (-0.001, 0.004), "undecided"),  # perhaps no gain at all
        (0.003, 0.005, (0.0005, 0.002), "refuted"),  # a gain, but surely less than was expected
        (0.003, 0.005, (-0.004, -0.001), "refuted"),
        (-0.002, 0.0, (-0.001, 0.003), "confirmed"),  # costs no more than .002
        (-0.002, 0.0, (-0.004, 0.003), "undecided"),
        (-0.002, 0.0, (-0.004, -0.003), "refuted"),
    ],
)
def test_verdict_of_a_relative_effect(low: float, high: float, ends: tuple[float, float], verdict: str) -> None:
    interval = Interval(sum(ends) / 2, *ends)
    assert verdict_of(Effect("hmean", low, high, relative=True), interval) == verdict


def test_verdict_of_a_score_is_by_its_own_interval() -> None:
    expected = Effect("hmean", 0.98, 0.981, relative=False)
    assert verdict_of(expected, Interval(0.985, 0.981, 0.989)) == "confirmed"
    assert verdict_of(expected, Interval(0.985, 0.970, 0.989)) == "undecided"
    assert verdict_of(expected, Interval(0.960, 0.950, 0.979)) == "refuted"


def test_experiments_are_held_against_the_baseline_of_their_phase() -> None:
    gain = Effect("hmean", 0.005, 0.02, relative=True)
    phase = phase_of(
        experiment("baseline"), experiment("good", gain), experiment("noise", gain), experiment("gone", gain)
    )
    study = study_of(phase)
    decision = decide(phase, study, board_of(study, baseline=BASE, good=BETTER, noise=NOISY), ())
    by_name = {outcome.experiment: outcome for outcome in decision.outcomes}
    assert decision.baseline == "p1/baseline" and decision.best == "p1/good"
    assert by_name["good"].verdict == "confirmed"
    assert by_name["good"].difference is not None and by_name["good"].difference.mean == pytest.approx(0.010, abs=0.003)
    assert by_name["noise"].verdict == "undecided"
    assert (by_name["gone"].verdict, by_name["gone"].note) == (None, "no trial finished")
    assert by_name["baseline"].difference is None and by_name["baseline"].verdict is None
    assert "| good | hmean +0.0050..+0.0200 |" in decision.markdown()


def test_the_baseline_of_an_earlier_phase_serves_a_later_one_and_a_nearer_one_wins() -> None:
    first, second = phase_of(experiment("baseline")), phase_of(experiment("x", phase="p2"), phase="p2")
    study = study_of(first, second)
    assert decide(second, study, board_of(study, baseline=BASE, x=BETTER), ()).baseline == "p1/baseline"
    second = phase_of(experiment("baseline", phase="p2"), experiment("x", phase="p2"), phase="p2")
    study = study_of(first, second)
    assert decide(second, study, board_of(study, baseline=BASE, x=BETTER), ()).baseline == "p2/baseline"


def test_a_figure_without_images_decides_nothing() -> None:
    phase = phase_of(experiment("x", Effect("hmean", 0.001, 0.002, relative=True)))
    study = study_of(phase, hmean=0.8)
    effect = decide(phase, study, board_of(study, x=BASE), ()).outcomes[0].effects[0]
    assert effect.measured == pytest.approx(BASE.mean() - 0.8, abs=1e-4)
    assert (effect.interval, effect.verdict) == (None, "undecided")


def test_a_sweep_is_its_best_trial_and_a_derived_experiment_the_mean_of_its_trials() -> None:
    sweep = experiment("lr", trials=2)
    folds = replace(experiment("folds", trials=2), derive=Derive(Top("p1", 1), (), (0, 1), {}), id="folds")
    phase = phase_of(sweep, folds)
    study = study_of(phase)
    values = {"lr-01": BASE, "lr-02": BETTER, "folds-01": BASE, "folds-02": BASE - 0.02}
    outcomes = decide(phase, study, board_of(study, **values), ()).outcomes
    assert (outcomes[0].candidate, outcomes[0].note) == ("p1/lr-02", "best of 2")
    assert outcomes[1].scores is not None
    assert outcomes[1].scores["hmean"] == pytest.approx(BASE.mean() - 0.01, abs=1e-4)


def test_target_and_gate_of_a_phase() -> None:
    phase = phase_of(
        experiment("baseline"),
        experiment("good"),
        target={"hmean": 0.5, "recall": 0.999},
        gate=Gate("ci_low(best - baseline) > 0", "stop"),
    )
    study = study_of(phase)
    decision = decide(phase, study, board_of(study, baseline=BASE, good=BETTER), ())
    assert [target.reached for target in decision.targets] == [True, False]
    assert decision.gate is not None and decision.gate.state == "passed" and decision.passed
    failed = decide(phase, study, board_of(study, baseline=BASE, good=BASE - 0.01), ())
    # the best of the phase is the baseline itself: its difference to itself is 0, and 0 > 0 does not hold
    assert failed.gate is not None and failed.gate.state == "failed" and failed.holds_others
    nothing = decide(phase, study, board_of(study), ())
    assert nothing.gate is not None and nothing.gate.state == "undecided" and not nothing.passed


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("hmean(best) >= 0.9", True),
        ("best >= 0.9 and recall(best) > 0.9", False),
        ("mean(best - baseline) > 0.099", True),
        ("ci_low(best - baseline) > 0.05 and ci_high(best - baseline) < 0.2", True),
        ("recall(best) - recall(baseline) < 0", True),
        ("ci_high(recall(best - baseline)) < 0", True),
        ("best > target", True),
        ("recall(best) > recall(target)", None),  # no target for recall
        ("ci_low(best - target) > 0", True),
        ("ci_low(target) > 0", None),  # a number has no interval
        ("missing > 0", None),
        ("missing > 0 or best > 0", True),
        ("missing > 0 and best > 0", None),
        ("missing > 0 and best < 0", False),
        ("best - -1 > 1.5", True),
    ],
)
def test_conditions(condition: str, expected: bool | None) -> None:
    ones = np.ones(10)
    jitter = np.linspace(-0.01, 0.01, 10)
    best = Candidate("b", {"hmean": 0.9 * ones + jitter + 1e-9, "precision": ones, "recall": 0.7 * ones})
    baseline = Candidate("a", {"hmean": 0.8 * ones, "precision": ones, "recall": 0.75 * ones})
    named = {"best": best, "baseline": baseline, "target": {"hmean": 0.85}}
    assert holds(gate(condition), named)[0] is expected  # type: ignore[arg-type]


def test_a_phase_never_looks_at_those_after_it() -> None:
    # A plan that is run again must choose what it chose at first, when the second phase had not run.
    study = study_of(phase_of(experiment("a")), phase_of(experiment("b", phase="p2"), phase="p2"))
    board = board_of(study, a=BASE, b=BETTER)
    assert [item.name for item in top(study, board, Top("all", 5), "p1")] == ["p1/a"]
    assert [item.name for item in top(study, board, Top("all", 5), "p2")] == ["p2/b", "p1/a"]
    assert [item.name for item in top(study, board, Top("p1.a", 1), "p2")] == ["p1/a"]
    assert [item.name for item in top(study, board, ("a", "b"), "p2")] == ["p2/b", "p1/a"]
