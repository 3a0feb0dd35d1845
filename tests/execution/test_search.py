"""A phase on a real cluster of two CPUs, with trainings that cost nothing."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import standins
from studies import Seen, make_experiment, make_study, make_trial

from orchestrator.errors import ClusterError
from orchestrator.execution.search import search
from orchestrator.execution.training import Train
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Asha, Experiment, Resources, Trial
from orchestrator.records import EpochRow

pytestmark = pytest.mark.usefixtures("two_cpus")


def pairs(*experiments: Experiment) -> list[tuple[Experiment, Trial]]:
    return [(experiment, trial) for experiment in experiments for trial in experiment.trials]


def starts(signs: Path) -> list[tuple[int, int]]:
    """(seed, epochs that were done) of each start, in order."""
    lines = (signs / "starts").read_text().splitlines() if (signs / "starts").exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines]


def test_trials_run_in_order_once_and_are_told(ledger: Ledger, curve: Train, signs: Path) -> None:
    first, second = make_trial(1), make_trial(2, experiment="f")
    phase = pairs(make_experiment(first), make_experiment(second, first, id="f"))
    seen = Seen()
    search(phase, make_study(ledger, concurrent=1), ledger, seen, curve)
    assert starts(signs) == [(1, 0), (2, 0)]
    life = [("started",), ("epoch", 1), ("epoch", 2), ("epoch", 3), ("ended", "finished")]
    assert seen.of("p/e-01") == seen.of("p/f-02") == life
    record = ledger.record(first.digest)
    assert (record.state, record.reason, record.attempts, record.best_epoch) == ("finished", "budget", 1, 3)
    assert record.best == {"hmean": 0.503, "precision": 0.5}
    assert not (ledger.workspace / "ray").exists()

    again = Seen()
    search(phase, make_study(ledger), ledger, again, curve)
    assert starts(signs) == [(1, 0), (2, 0)]
    assert again.of("p/e-01") == life


def test_asha_stops_what_lags_with_its_numbers(ledger: Ledger, curve: Train, signs: Path) -> None:
    # One at a time, so the order is known. At rung 2 the values are level + .002: .502; .402 < median .502 -> stop;
    # .602 >= median(.502, .402) = .452 -> on; .442 < median(.502, .402, .602) = .502 -> stop.
    levels = {1: 0.5, 2: 0.4, 3: 0.6, 4: 0.44}
    trials = [make_trial(seed, level, epochs=4) for seed, level in levels.items()]
    seen = Seen()
    phase = pairs(make_experiment(*trials, asha=Asha(grace=2, eta=2)))
    search(phase, make_study(ledger, concurrent=1), ledger, seen, curve)
    records = [ledger.record(trial.digest) for trial in trials]
    assert [record.state for record in records] == ["finished", "pruned", "finished", "pruned"]
    assert [len(record.epochs) for record in records] == [4, 2, 4, 2]
    assert records[3].reason == "ASHA: hmean 0.4420 at epoch 2 is below 0.5020, the cut of 3 at rung 2"
    assert seen.of("p/e-02")[-1] == ("ended", "pruned")


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_patience_ends_on_a_rung_is_finished(ledger: Ledger, curve: Train, signs: Path, workers: int) -> None:
    # Trial 1 makes .502 at rung 2. The others fall from epoch 1 on, so at the rung they are below it, and stale since
    # one epoch: with patience 1 that was their last one anyway, with patience 2 it was not.
    (signs / "falls-2").touch()
    (signs / "falls-3").touch()

    def patient(seed: int, patience: int, level: float, workers: int = 1) -> Trial:
        trial = make_trial(seed, level, epochs=4, workers=workers)
        return replace(trial, config=trial.config.model_copy(update={"patience": patience, "patience_from": 2}))

    trials = [make_trial(1, 0.5, epochs=4), patient(2, 1, 0.3, workers), patient(3, 2, 0.29)]
    phase = pairs(make_experiment(*trials, asha=Asha(grace=2, eta=2)))
    search(phase, make_study(ledger, concurrent=1), ledger, Seen(), curve)
    records = [ledger.record(trial.digest) for trial in trials]
    assert [record.state for record in records] == ["finished", "finished", "pruned"]
    assert [record.reason for record in records[:2]] == ["budget", "patience"]
    # the cut of .502 and .298 is their median
    assert records[2].reason == "ASHA: hmean 0.2880 at epoch 2 is below 0.4000, the cut of 2 at rung 2"
    assert [len(record.epochs) for record in records] == [4, 2, 2]
    assert [record.best_epoch for record in records] == [4, 1, 1]


def test_a_sweep_goes_on_as_if_undisturbed(ledger: Ledger, curve: Train, signs: Path) -> None:
    # The driver before this one finished trial 1, saw trial 2 reach epoch 1, and died just after trial 3's epoch 2,
    # before it could act: trial 3's .302 < .502 is stopped without being started, trial 2 goes on from epoch 1.
    trials = [make_trial(seed, level, epochs=4) for seed, level in {1: 0.5, 2: 0.6, 3: 0.3}.items()]
    for trial, epochs in zip(trials, (4, 1, 2), strict=True):
        for number in range(1, epochs + 1):
            value = standins.value_at(trial.config, number)
            row = EpochRow(number, {"hmean": value, "precision": 0.5}, 0.0, time_ms=100 * trial.config.seed + number)
            ledger.append_epoch(trial.digest, row)
        (ledger.folder(trial.digest) / "last.json").write_text(f'{{"epoch": {epochs}}}')
    ledger.set_state(trials[0].digest, "finished", "budget")
    ledger.set_state(trials[1].digest, "running")
    ledger.set_state(trials[2].digest, "running")
    seen = Seen()
    search(pairs(make_experiment(*trials, asha=Asha(2, 2))), make_study(ledger), ledger, seen, curve)
    assert starts(signs) == [(2, 1)]
    assert [ledger.record(trial.digest).state for trial in trials] == ["finished", "finished", "pruned"]
    assert seen.of("p/e-02") == [("started",), *[("epoch", n) for n in (1, 2, 3, 4)], ("ended", "finished")]
    assert seen.of("p/e-03") == [("started",), ("epoch", 1), ("epoch", 2), ("ended", "pruned")]


def test_failures_are_told_and_the_next_run_tries_again(ledger: Ledger, curve: Train, signs: Path) -> None:
    nan, blind, good = (make_trial(seed) for seed in (1, 2, 3))
    (signs / "raise-1-2").touch()
    (signs / "blind-2").touch()
    seen = Seen()
    search(pairs(make_experiment(nan, blind, good)), make_study(ledger), ledger, seen, curve)
    record = ledger.record(nan.digest)
    assert record.state == "failed" and len(record.epochs) == 1
    trace = ledger.folder(nan.digest) / "traceback.txt"
    assert record.reason == f"loss is nan at epoch 2; lower optimizer.lr (see {trace})"
    assert "TrainingFailed" in trace.read_text()
    assert "`hmean` must be among the metrics of epoch 1, got loss, val_h_mean" in ledger.record(blind.digest).reason
    assert ledger.record(good.digest).state == "finished"
    assert seen.of("p/e-01")[-1] == ("ended", "failed")

    (signs / "raise-1-2").unlink()
    search(pairs(make_experiment(nan, good)), make_study(ledger), ledger, Seen(), curve)
    assert (ledger.record(nan.digest).state, ledger.record(nan.digest).attempts) == ("finished", 2)


def test_a_signal_ends_cleanly_and_the_same_call_goes_on(ledger: Ledger, signs: Path) -> None:
    slow = functools.partial(standins.curve, signs=signs, epoch_s=0.3)
    trial, waiting = make_trial(1, epochs=40), make_trial(2)
    phase = pairs(make_experiment(trial, waiting))
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        before = len(ledger.record(trial.digest).epochs)
        strikes = iter([number])

        def strike(strikes: Iterator[signal.Signals] = strikes, before: int = before) -> None:
            if len(ledger.record(trial.digest).epochs) > before:
                for one in strikes:
                    os.kill(os.getpid(), one)

        with pytest.raises(KeyboardInterrupt):
            search(phase, make_study(ledger, concurrent=1), ledger, Seen(strike), slow)
        assert signal.getsignal(number) is handler
        record = ledger.record(trial.digest)
        assert (record.state, record.reason) == ("queued", "interrupted")
        assert before < len(record.epochs) < 40
        assert ledger.record(waiting.digest).epochs == ()
    search(phase, make_study(ledger), ledger, Seen(), functools.partial(standins.curve, signs=signs))
    assert [row.number for row in ledger.record(trial.digest).epochs] == list(range(1, 41))
    done = [epochs for seed, epochs in starts(signs) if seed == 1]
    assert done[0] == 0 and done[2] in (len(record.epochs) - 1, len(record.epochs))


def test_what_can_never_start_is_refused_before_anything_starts(ledger: Ledger, curve: Train, signs: Path) -> None:
    fits = make_trial(1)
    wide = make_trial(2, workers=3)
    fast = Trial("f" * 16, "p/fast", "p", "e", fits.config, resources=Resources(cpus=1, gpus=1))
    with pytest.raises(ClusterError) as caught:
        search(pairs(make_experiment(fits, wide, fast)), make_study(ledger), ledger, Seen(), curve)
    assert str(caught.value).splitlines()[:2] == [
        "p/e-02: 3 workers of 1 CPUs and 0 GPUs must fit, the cluster has 2 CPUs and 0 GPUs on 1 node",
        "p/fast: 1 worker of 1 CPUs and 1 GPUs must fit, the cluster has 2 CPUs and 0 GPUs on 1 node",
    ]
    assert starts(signs) == []


def test_two_ranks_neither_starve_nor_outrun_asha(ledger: Ledger, signs: Path) -> None:
    # On 2 CPUs a trial of two workers must wait for both, and the single trials behind it for its end. Its .301 at
    # epoch 1 is below the median .501 of the two before it: it must not have trained an epoch more when it is stopped.
    train = functools.partial(standins.curve, signs=signs, epoch_s=0.1)
    levels = {1: 0.5, 2: 0.5, 3: 0.3, 4: 0.5, 5: 0.5}
    trials = [make_trial(seed, level, workers=2 if seed == 3 else 1) for seed, level in levels.items()]
    phase = pairs(make_experiment(*trials, asha=Asha(grace=1, eta=2)))
    search(phase, make_study(ledger), ledger, Seen(), train)
    records = [ledger.record(trial.digest) for trial in trials]
    assert [record.state for record in records] == ["finished", "finished", "pruned", "finished", "finished"]
    assert [len(record.epochs) for record in records] == [3, 3, 1, 3, 3]
    assert records[2].reason == "ASHA: hmean 0.3010 at epoch 1 is below 0.5010, the cut of 2 at rung 1"
    order = [seed for seed, _ in starts(signs)]
    assert sorted(order[:2]) == [1, 2] and order[2:4] == [3, 3] and sorted(order[4:]) == [4, 5]


@pytest.mark.slow
def test_a_lost_rank_is_started_again_and_a_fault_is_not(ledger: Ledger, curve: Train, signs: Path) -> None:
    lost, wrong = make_trial(1, workers=2), make_trial(2, workers=2)
    (signs / "kill-1-2").touch()
    (signs / "raise-2-2").touch()
    search(pairs(make_experiment(lost, wrong)), make_study(ledger), ledger, Seen(), curve)
    record = ledger.record(lost.digest)
    assert (record.state, record.attempts, [row.number for row in record.epochs]) == ("finished", 2, [1, 2, 3])
    fault = ledger.record(wrong.digest)
    assert (fault.state, fault.attempts) == ("failed", 1)
    assert fault.reason.startswith("loss is nan at epoch 2; lower optimizer.lr (see ")
    assert "in _trouble" in (ledger.folder(wrong.digest) / "traceback.txt").read_text()
