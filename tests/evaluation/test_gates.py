"""Decisions on phases made by hand: verdicts, baselines, targets and gates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.config import Config
from detector.metrics.cleval import Counts
from detector.types import Float64
from orchestrator.evaluation.answers import answers, give
from orchestrator.evaluation.decisions import GateOutcome
from orchestrator.evaluation.gate_values import Candidate, holds
from orchestrator.evaluation.gates import decide, verdict_of
from orchestrator.evaluation.scores import Board, ImageScores, study_trials, top
from orchestrator.evaluation.statistics import Interval
from orchestrator.plan.conditions import gate
from orchestrator.plan.study import TARGET, Derive, Effect, Experiment, Gate, Phase, Study, Top, Trial

IMAGES = 40


def trial(name: str, phase: str = "p1") -> Trial:
    return Trial(f"{phase}-{name}".ljust(16, "0"), f"{phase}/{name}", phase, name, Config())


def experiment(name: str, *effects: Effect, phase: str = "p1", trials: int = 1) -> Experiment:
    members = [trial(name if trials == 1 else f"{name}-{number:02d}", phase) for number in range(1, trials + 1)]
    return Experiment(name, phase, "", 1, tuple(members), expect=effects)


def study_of(*phases: Phase, workspace: Path = Path("nowhere"), **baseline: float) -> Study:
    return Study("r", Path("plan.yaml"), workspace, phases, baseline, None, None, "", {})


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
    interval = Interval(sum(ends) / 2, *ends, count=IMAGES)
    assert verdict_of(Effect("hmean", low, high, relative=True), interval) == verdict


def test_verdict_of_a_score_is_by_its_own_interval() -> None:
    expected = Effect("hmean", 0.98, 0.981, relative=False)
    assert verdict_of(expected, Interval(0.985, 0.981, 0.989, count=IMAGES)) == "confirmed"
    assert verdict_of(expected, Interval(0.985, 0.970, 0.989, count=IMAGES)) == "undecided"
    assert verdict_of(expected, Interval(0.960, 0.950, 0.979, count=IMAGES)) == "refuted"


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
    assert [target.state for target in decision.targets] == ["passed", "failed"] and decision.state == "failed"
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


# --- few images ------------------------------------------------------------------------------------------------------


def test_few_images_decide_nothing_however_much_they_agree() -> None:
    # All differences are +.02: on 8 images the interval is [.02, .02], on 7 the same, but 7 are too few.
    gain = Effect("hmean", 0.005, 0.03, relative=True)
    phase = phase_of(
        experiment("baseline"),
        experiment("good", gain, Effect("hmean", 0.5, 1.0, relative=False)),
        target={"hmean": 0.5},
        gate=Gate("ci_low(best - baseline) > 0.01", "stop"),
    )
    study = study_of(phase)
    for images, verdict, state in ((8, "confirmed", "passed"), (7, "undecided", "undecided")):
        board = board_of(study, baseline=np.full(images, 0.8), good=np.full(images, 0.82))
        decision = decide(phase, study, board, ())
        assert decision.outcomes[1].verdict == verdict
        assert {effect.verdict for effect in decision.outcomes[1].effects} == {verdict}
        assert decision.gate is not None
        assert (decision.targets[0].state, decision.gate.state, decision.state) == (state, state, state)
    assert decision.outcomes[1].effects[0].why == (
        "against p1/baseline; 7 images cannot show a difference; at least 8 are needed"
    )
    assert decision.gate.numbers == "ci_low: 7 images cannot show a difference; at least 8 are needed"
    assert decision.holds_others


def test_a_plain_comparison_of_means_needs_no_interval() -> None:
    one = Candidate("b", {"hmean": np.array([0.9]), "precision": np.ones(1), "recall": np.ones(1)})
    assert holds(gate("hmean(best) >= 0.9"), {"best": one}) == (True, "0.9000 >= 0.9000")
    assert holds(gate("ci_low(best) > 0.1"), {"best": one})[0] is None


# --- targets and answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "state"),
    # 20 images at .80 and 20 at .90: mean .85, SE .05 / sqrt(40) = .0079, t(39) = 2.02: .85 +- .016
    [(0.82, "passed"), (0.84, "undecided"), (0.86, "undecided"), (0.88, "failed")],
)
def test_a_target_is_held_against_the_interval_of_the_best(wanted: float, state: str) -> None:
    phase = phase_of(experiment("x"), target={"hmean": wanted}, gate=Gate(TARGET, "ask"))
    study = study_of(phase)
    decision = decide(phase, study, board_of(study, x=np.repeat([0.8, 0.9], 20)), ())
    (target,) = decision.targets
    assert target.interval is not None and target.interval.low == pytest.approx(0.834, abs=0.003)
    assert target.interval.high == pytest.approx(0.866, abs=0.003)
    assert decision.gate is not None and (target.state, decision.gate.state) == (state, state)
    assert decision.gate.numbers.startswith(f"hmean >= {wanted:.4f}: {state} (0.8500 [0.83")


def outcome(phase: Phase, study: Study, values: Float64) -> GateOutcome:
    found = decide(phase, study, board_of(study, x=values), ()).gate
    assert found is not None
    return found


def test_an_answer_stands_while_its_numbers_do(tmp_path: Path) -> None:
    phase = phase_of(experiment("x"), gate=Gate("hmean(best) >= 0.9", "ask"))
    study = study_of(phase, workspace=tmp_path)
    asked = outcome(phase, study, np.full(20, 0.8))
    assert asked.asks and asked.holds and asked.answer is None
    seen = (asked.expression, asked.state, asked.numbers)
    give(tmp_path, "p1", "stop", "", seen, by="kim", at="2026-11-23T10:00:00+00:00")
    stopped = outcome(phase, study, np.full(20, 0.8))
    assert not stopped.asks and stopped.holds and not stopped.settled
    give(tmp_path, "p1", "go-on", "the  set is\nsmall", seen, by="lee", at="2026-11-23T11:00:00+00:00")
    going = outcome(phase, study, np.full(20, 0.8))
    assert not going.asks and not going.holds and going.settled and not going.passed
    assert str(going) == (
        "gate hmean(best) >= 0.9: failed (0.8000 >= 0.9000); answered go-on by lee, 2026-11-23T11:00:00+00:00: "
        "the set is small"
    )
    assert outcome(phase, study, np.full(20, 0.81)).asks  # other numbers
    other = replace(phase, gate=Gate("best >= 0.9", "ask"))
    assert outcome(other, study_of(other, workspace=tmp_path), np.full(20, 0.8)).asks  # another condition
    strict = replace(phase, gate=Gate("hmean(best) >= 0.9", "stop"))
    assert outcome(strict, study_of(strict, workspace=tmp_path), np.full(20, 0.8)).holds  # which asks nobody
    passed = outcome(phase, study, np.full(20, 0.95))
    assert passed.settled and passed.answer is None
    assert [answer.by for answer in answers(tmp_path, "p1")] == ["kim", "lee"]


def test_an_answer_is_shown_with_the_decision_and_cannot_mark_it_up(tmp_path: Path) -> None:
    phase = phase_of(experiment("x"), gate=Gate("hmean(best) >= 0.9", "ask"))
    study = study_of(phase, workspace=tmp_path)
    give(tmp_path, "p1", "go-on", "<b>now</b>", ("hmean(best) >= 0.9", "failed", "0.8000 >= 0.9000"), by="kim")
    decision = decide(phase, study, board_of(study, x=np.full(20, 0.8)), ())
    assert "answered go-on by kim, " in decision.markdown() and "&lt;b&gt;now&lt;/b&gt;." in decision.markdown()
    assert decision.as_json()["gate"]["answer"]["because"] == "<b>now</b>"
    assert decision.as_json()["state"] == "failed"
