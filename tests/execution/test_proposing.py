"""Proposals of TPE: points of the space, a function of seed, number and history."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from studies import make_sweep

from orchestrator.execution.proposing import Next, next_point, outcome_of
from orchestrator.execution.tpe import propose
from orchestrator.plan.points import Drawn, draw, grid, walk
from orchestrator.plan.proposals import Outcome
from orchestrator.plan.space import axes_of
from orchestrator.records import EpochRow, TrialRecord

MIXED: dict[str, Any] = {
    "decoder": ["fpn", "unet"],
    "inner_channels": {"by": "decoder", "values": {"unet": [64, 128, 256], "fpn": "128..512 step 64"}},
    "batch_size": [2, 4, 8],
    "optimizer": {
        "lr": {"values": "loguniform(1e-5, 1e-3)", "times": "batch_size"},
        "weight_decay": "uniform(0, 0.1)",
        "betas": [[0.9, 0.999], [0.8, 0.99]],
    },
}
STATES: tuple[Outcome, ...] = (Outcome("running"), Outcome("failed"))


def outcomes() -> st.SearchStrategy[Outcome]:
    value = st.floats(0, 1)
    ended = st.builds(Outcome, st.just("finished"), value) | st.builds(
        Outcome, st.just("pruned"), value, st.integers(1, 9)
    )
    return ended | st.sampled_from(STATES)


@given(st.integers(0, 2**32), st.integers(2, 12), st.data())
@settings(max_examples=15, deadline=None)
def test_a_proposal_is_a_point_of_the_space_and_depends_on_nothing_else(seed: int, known: int, data: Any) -> None:
    axes = axes_of(MIXED)
    history = [(drawn.picks, data.draw(outcomes())) for drawn in draw(axes, known, seed)]
    made, again = (propose(axes, seed, known, history, 24, lambda drawn: False) for _ in range(2))
    assert made is not None and made == again
    point = made.point
    assert list(point) == list(axes)
    assert 1e-5 <= made.picks["optimizer.lr"] <= 1e-3
    assert point["optimizer.lr"] == float(f"{made.picks['optimizer.lr'] * point['batch_size']:.6g}")
    assert 0 <= point["optimizer.weight_decay"] <= 0.1
    assert point["inner_channels"] in ((64, 128, 256) if point["decoder"] == "unet" else range(128, 513, 64))
    assert walk(axes, lambda key, name, values: made.picks[key]) == made
    back = json.loads(json.dumps({"picks": made.picks, "point": point}))
    assert Drawn(back["point"], back["picks"]) == made


def line(values: Callable[[float], Outcome], number: int = 20) -> list[tuple[dict[str, Any], Outcome]]:
    return [({"optimizer.weight_decay": x / number}, values(x / number)) for x in range(number)]


def mean_of_proposals(history: list[tuple[dict[str, Any], Outcome]]) -> float:
    axes = axes_of({"optimizer.weight_decay": "uniform(0, 1)"})
    made = [propose(axes, 0, number, history, 24, lambda drawn: False) for number in range(100, 110)]
    return sum(drawn.point["optimizer.weight_decay"] for drawn in made if drawn is not None) / len(made)


def test_proposals_go_where_values_are_high() -> None:
    assert mean_of_proposals(line(lambda x: Outcome("finished", x))) > 0.8
    assert mean_of_proposals(line(lambda x: Outcome("finished", 1 - x))) < 0.2


def test_pruned_trials_count_behind_finished_ones_and_failed_ones_not_at_all() -> None:
    # Pruned at epoch 1 on the left, however high, against trials that got to epoch 9 on the right.
    assert mean_of_proposals(line(lambda x: Outcome("pruned", 1 - x, 9 if x > 0.8 else 1))) > 0.7
    # The finished ones are on the left; a pruned one is never better than they are.
    finished = line(lambda x: Outcome("finished", 0.1) if x < 0.2 else Outcome("pruned", 0.9, 9))
    assert mean_of_proposals(finished) < 0.3
    told = line(lambda x: Outcome("finished", x))
    failed = [({"optimizer.weight_decay": 0.01}, Outcome("failed"))] * 30
    assert mean_of_proposals([*told, *failed]) == mean_of_proposals(told)


def test_proposals_keep_away_from_trials_in_flight() -> None:
    told = line(lambda x: Outcome("finished", x))
    there = [({"optimizer.weight_decay": 0.9 + x / 100}, Outcome("running")) for x in range(10)]
    assert mean_of_proposals([*told, *there]) < mean_of_proposals(told) - 0.05


def test_a_finite_space_is_proposed_to_its_last_point() -> None:
    rule = make_sweep({"decoder": ["fpn", "unet"], "batch_size": [1, 2, 3]}, trials=6, starts=2).proposals
    assert rule is not None
    history = [(drawn, Outcome("finished", 0.5)) for drawn in draw(axes_of(rule.space), 2, 0)]
    for _ in range(4):
        found = next_point(rule, history)
        assert found is not None
        assert {one.why for one in found.refused} <= {"known"}
        history.append((found.drawn, Outcome("finished", 0.5)))
    assert {drawn.name for drawn, _ in history} == {drawn.name for drawn in grid(axes_of(rule.space))}
    assert next_point(rule, history) is None


def test_before_as_many_have_ended_as_start_a_proposal_is_that_of_a_random_search() -> None:
    rule = make_sweep(MIXED, trials=9, starts=4).proposals
    assert rule is not None
    drawn = draw(axes_of(MIXED), 9, 0)
    three, four = ([Outcome("finished", 0.5)] * ended + [Outcome("running")] * (6 - ended) for ended in (3, 4))
    assert next_point(rule, list(zip(drawn[:6], three, strict=True))) == Next(drawn[6], "random")
    found = next_point(rule, list(zip(drawn[:6], four, strict=True)))
    assert found is not None and found.by == "tpe" and found.drawn != drawn[6]


def test_what_a_sampler_is_told_of_a_record() -> None:
    rows = tuple(EpochRow(n, {"hmean": value}, 1.0, n) for n, value in ((1, 0.4), (2, 0.6), (3, 0.5)))
    record = TrialRecord("d", "finished", rows, best=rows[1].metrics, best_epoch=2)
    assert outcome_of(record) == Outcome("finished", 0.6)
    assert outcome_of(TrialRecord("d", "pruned", rows, best=rows[1].metrics)) == Outcome("pruned", 0.5, 3)
    assert outcome_of(TrialRecord("d", "failed", rows, best=rows[1].metrics)) == Outcome("failed")
    assert outcome_of(TrialRecord("d", "queued")) == outcome_of(TrialRecord("d", "running", rows)) == Outcome("running")
    lost = TrialRecord("d", "finished", (EpochRow(1, {"hmean": math.nan}, 1.0, 1),), best={"hmean": math.nan})
    assert outcome_of(lost) == Outcome("failed")
