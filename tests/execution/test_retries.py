"""Trials that go on after what may not come again, on a real cluster of two CPUs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from studies import Seen, make_experiment, make_study, make_trial

from orchestrator.execution.retries import LOST
from orchestrator.execution.search import search
from orchestrator.execution.training import Train
from orchestrator.ledger import Ledger

pytestmark = pytest.mark.usefixtures("two_cpus")
STALE = "OSError: [Errno 116] Stale file handle: 'last.json'"


def test_a_disk_that_fails_once_and_one_that_fails_for_good(ledger: Ledger, curve: Train, signs: Path) -> None:
    once, ever, fault, killed = (make_trial(seed) for seed in (1, 2, 3, 4))
    (signs / "stale-1-2").write_bytes(b"x")
    (signs / "stale-2-3").write_bytes(b"xxxxxx")
    (signs / "raise-3-2").touch()
    (signs / "kill-4-2").touch()
    seen = Seen()
    trials = (once, ever, fault, killed)
    experiment = make_experiment(*trials)
    study = replace(make_study(ledger), retries=1)
    search([(experiment, trial) for trial in trials], study, ledger, seen, curve)
    first, second, third, fourth = (ledger.record(trial.digest) for trial in trials)
    assert (first.state, first.attempts, [row.number for row in first.epochs]) == ("finished", 2, [1, 2, 3])
    assert [(one.kind, one.epoch, one.reason) for one in first.incidents] == [("retry", 1, STALE)]
    assert (second.state, second.attempts) == ("failed", 2)
    assert second.reason == f"{STALE}; it was started again once"
    assert [one.epoch for one in second.incidents] == [2]
    assert (third.state, third.attempts, third.incidents) == ("failed", 1, ())
    assert (fourth.state, fourth.attempts, [row.number for row in fourth.epochs]) == ("finished", 2, [1, 2, 3])
    assert [(one.epoch, one.reason) for one in fourth.incidents] == [(1, LOST)]
    assert "ESTALE" in (ledger.folder(once.digest) / "traceback.txt").read_text()
    assert seen.of("p/e-01")[-1] == ("ended", "finished") and seen.of("p/e-02")[-1] == ("ended", "failed")


@pytest.mark.slow
def test_ranks_begin_again_with_half_a_batch(ledger: Ledger, curve: Train, signs: Path) -> None:
    # No retry is left, and none is needed: half a batch is not counted as one.
    trial = make_trial(1, workers=2)
    (signs / "half-1-2").touch()
    study = replace(make_study(ledger), retries=0)
    search([(make_experiment(trial), trial)], study, ledger, Seen(), curve)
    record = ledger.record(trial.digest)
    assert (record.state, record.reason, record.attempts) == ("finished", "budget", 2)
    assert [row.number for row in record.epochs] == [1, 2, 3]
    (incident,) = record.incidents
    assert incident.kind == "memory"
    assert incident.epoch in (1, 2)  # ranks of this stand-in do not wait for each other: the first may be an epoch on
    told = "not enough memory for 4 images in epoch 2, so 2 at once: CUDA out of memory. Tried to allocate 2 GiB"
    assert str(incident) == told
