"""The rungs of a sweep against a plain second opinion, what a restart makes of them, and patience beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import make_experiment, make_sweep, make_trial

from orchestrator.execution.asha import Past, Sweep, past_of
from orchestrator.plan.study import Asha, Experiment, Trial
from orchestrator.records import EpochRow, TrialRecord

EPOCHS = 9
SPACE = {"optimizer.lr": "loguniform(1e-5, 1e-2)", "batch_size": [2, 4, 8]}


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


def patient(seed: int, patience: int, since: int = 0, min_delta: float = 0.0, epochs: int = EPOCHS) -> Trial:
    trial = make_trial(seed, epochs=epochs)
    update = {"patience": patience, "patience_from": since, "min_delta": min_delta}
    return replace(trial, config=trial.config.model_copy(update=update))


def plain_is_over(values: list[float], patience: int, since: int, min_delta: float) -> bool:
    """By the definition, on all values of a trial so far: the best is the last that beat all before it by enough."""
    best = 0
    for place in range(1, len(values)):
        if values[place] > values[best] + min_delta:
            best = place
    stale = len(values) - 1 - best
    return len(values) >= EPOCHS or (patience > 0 and stale >= patience and len(values) >= since)


@given(runs(), st.integers(0, 4), st.integers(0, 6), st.sampled_from([0.0, 0.125]))
@settings(max_examples=80, deadline=None)
def test_what_patience_ends_is_never_pruned(
    run: tuple[int, int, list[Past]], patience: int, since: int, min_delta: float
) -> None:
    grace, eta, rows = run
    trials = [patient(n, patience, since, min_delta) for n in range(6)]
    experiment = make_experiment(*trials, asha=Asha(grace, eta))
    sweep, rungs, told, ended = Sweep(experiment), dict[int, list[float]](), dict[str, list[float]](), set[str]()
    history: list[Past] = []
    for row in rows:
        if row.digest in ended:
            continue
        told.setdefault(row.digest, []).append(row.value)
        is_over = plain_is_over(told[row.digest], patience, since, min_delta)
        below = False
        if row.epoch in plain_rungs(grace, eta):
            peers = rungs.setdefault(row.epoch, [])
            below = bool(peers) and row.value < np.quantile(peers, 1 - 1 / eta)
            peers.append(row.value)  # also of a trial that is over: it came to this rung
        restarted = Sweep(experiment)
        restarted.replay(history)
        reasons = [one.judge(row.digest, row.epoch, row.value) for one in (sweep, restarted)]
        assert [reason is not None for reason in reasons] == [below and not is_over] * 2
        history.append(row)
        if below or is_over:
            ended.add(row.digest)


def test_patience_and_a_rung_at_one_epoch() -> None:
    # Rung 2. Trial 1 makes .60 there; 2 and 3 come with .40 < .60, and their best was epoch 1. Trial 2 has patience 1
    # and ends here by itself, with its .70; trial 3 would wait for one epoch more. Trial 4: the cut of .60, .40, .40
    # is their median, .40, so .41 goes on: a trial that patience ended counts as one that came to the rung.
    trials = [patient(1, 0), patient(2, 1, since=2), patient(3, 2), patient(4, 0)]
    one, two, three, four = (trial.digest for trial in trials)
    sweep = Sweep(make_experiment(*trials, asha=Asha(2, 2)))
    for digest, values in ((one, (0.5, 0.6)), (two, (0.7, 0.4))):
        assert [sweep.judge(digest, epoch, value) for epoch, value in enumerate(values, start=1)] == [None, None]
    assert sweep.judge(three, 1, 0.7) is None
    # of .60 and .40 the median is .50
    assert sweep.judge(three, 2, 0.4) == "ASHA: hmean 0.4000 at epoch 2 is below 0.5000, the cut of 2 at rung 2"
    assert sweep.judge(four, 2, 0.41) is None
    # A driver that dies before it hears of the end finds nothing to stop, and the training ends as it would have.
    past = [Past(one, 2, 0.6, 1), Past(two, 1, 0.7, 2), Past(two, 2, 0.4, 3)]
    assert Sweep(make_experiment(*trials, asha=Asha(2, 2))).replay(past) == {}


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


# --- trials that join ------------------------------------------------------------------------------------------------


@st.composite
def orders(draw_: st.DrawFn) -> list[tuple[int, int, float]]:
    """Epochs of ten trials in some order, each trial's own one after the other: (trial, epoch, value)."""
    turns = draw_(st.permutations([trial for trial in range(10) for _ in range(6)]))
    reached, rows = [0] * 10, []
    for trial in turns:
        reached[trial] += 1
        rows.append((trial, reached[trial], draw_(st.integers(0, 8)) / 8))
    return rows


def judged(experiment: Experiment, grown: Experiment, rows: list[tuple[int, int, float]], cut: int) -> Iterator[Any]:
    """The decisions of a driver on each epoch; one that died after `cut` epochs is followed by another.

    The first knows the trials of `experiment`; others join as they are proposed, before their first epoch. The second
    finds those in the ledger that had been proposed by then.
    """
    digests = [trial.digest for trial in grown.trials]
    sweep, known, stopped = Sweep(experiment), set(range(len(experiment.trials))), set[int]()
    past = []
    for place, (trial, epoch, value) in enumerate(rows):
        if place == cut:
            first = tuple(one for index, one in enumerate(grown.trials) if index in known)
            sweep = Sweep(replace(experiment, trials=first))
            epochs: dict[int, list[EpochRow]] = {}
            for time_ms, (number, at, height) in past:
                epochs.setdefault(number, []).append(EpochRow(at, {"hmean": height}, 1.0, time_ms))
            sweep.replay(past_of([TrialRecord(digests[n], "running", tuple(rows_)) for n, rows_ in epochs.items()]))
        if trial in stopped:
            continue
        if trial not in known:
            known.add(trial)
            sweep.add(grown.trials[trial])
        reason = sweep.judge(digests[trial], epoch, value)
        past.append((place, (trial, epoch, value)))
        if reason is not None:
            stopped.add(trial)
        yield trial, epoch, reason


@given(orders(), st.integers(1, 60), st.integers(1, 3), st.integers(2, 3))
@settings(max_examples=60, deadline=None)
def test_asha_decides_alike_after_any_death_with_trials_that_join(
    rows: list[tuple[int, int, float]], cut: int, grace: int, eta: int
) -> None:
    trials = tuple(make_trial(number, epochs=6) for number in range(10))
    sweep = make_sweep(SPACE, trials=10, starts=5, epochs=6, asha=Asha(grace, eta))
    experiment, grown = replace(sweep, trials=trials[:5]), replace(sweep, trials=trials)
    assert list(judged(experiment, grown, rows, cut)) == list(judged(experiment, grown, rows, -1))


def test_rungs_reach_as_far_as_the_longest_trial_that_may_come() -> None:
    space = {"max_epochs": [4, 16], "batch_size": [2, 4, 8]}
    experiment = make_sweep(space, trials=6, starts=2, asha=Asha(4, 2))
    assert experiment.proposals is not None and experiment.proposals.max_epochs == 16
    sweep = Sweep(experiment)  # rungs at 4 and 8 of 16, although both starts may end at 4
    assert experiment.asha is not None and [rung for rung, _ in sweep._rungs._brackets[0]._rungs] == [16, 8, 4]
