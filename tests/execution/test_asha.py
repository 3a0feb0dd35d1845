"""The rungs of a sweep against a plain second opinion, and what a restart makes of them."""

from __future__ import annotations

import numpy as np
from conftest import make_experiment, make_trial
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.execution.asha import Past, Sweep
from orchestrator.plan.study import Asha

EPOCHS = 9


def plain_rungs(grace: int, eta: int) -> list[int]:
    rungs = [grace]
    while rungs[-1] * eta <= EPOCHS:
        rungs.append(rungs[-1] * eta)
    return rungs


@st.composite
def runs(draw: st.DrawFn) -> tuple[int, int, list[Past]]:
    """A sweep of up to 6 trials whose epochs come interleaved, each trial's own in order."""
    count = draw(st.integers(1, 6))
    grace, eta = draw(st.integers(1, 4)), draw(st.integers(2, 3))
    turns = draw(st.permutations([trial for trial in range(count) for _ in range(EPOCHS)]))
    reached = [0] * count
    rows = []
    for time_ms, trial in enumerate(turns):
        reached[trial] += 1
        value = draw(st.integers(0, 8)) / 8
        rows.append(Past(f"{trial:016x}", reached[trial], value, time_ms))
    return grace, eta, rows


@given(runs())
@settings(max_examples=80, deadline=None)
def test_stops_equal_the_definition_and_a_restart_changes_none(run: tuple[int, int, list[Past]]) -> None:
    grace, eta, rows = run
    experiment = make_experiment(*(make_trial(n, epochs=EPOCHS) for n in range(6)), asha=Asha(grace, eta))
    sweep, seen, stopped = Sweep(experiment), dict[int, list[float]](), set[str]()
    history: list[Past] = []
    for row in rows:
        if row.digest in stopped:
            continue
        expected = False
        if row.epoch in plain_rungs(grace, eta):
            peers = seen.setdefault(row.epoch, [])
            expected = bool(peers) and row.value < np.quantile(peers, 1 - 1 / eta) and row.epoch < EPOCHS
            peers.append(row.value)
        restarted = Sweep(experiment)
        restarted.replay(history)
        reason = sweep.judge(row.digest, row.epoch, row.value)
        assert (reason is not None) == expected
        assert restarted.judge(row.digest, row.epoch, row.value) == reason
        history.append(row)
        if reason is not None:
            assert Sweep(experiment).replay(history).get(row.digest) == reason
            stopped.add(row.digest)


def test_a_trial_that_went_on_is_not_stopped_by_a_replay() -> None:
    # Both reached rung 1 in the same instant; the driver saw 2 first (it had no peers) and let it go on to epoch 2.
    trials = [make_trial(n, epochs=4) for n in (1, 2)]
    one, two = (trial.digest for trial in trials)
    past = [Past(one, 1, 0.5, 100), Past(two, 1, 0.4, 100), Past(two, 2, 0.4, 200)]
    assert Sweep(make_experiment(*trials, asha=Asha(1, 4))).replay(past) == {}


def test_grace_beyond_the_budget_stops_nothing() -> None:
    trials = [make_trial(n, epochs=2) for n in (1, 2)]
    sweep = Sweep(make_experiment(*trials, asha=Asha(5, 2)))
    verdicts = [sweep.judge(trial.digest, epoch, 0.5 - trial.config.seed / 10) for trial in trials for epoch in (1, 2)]
    assert verdicts == [None] * 4
