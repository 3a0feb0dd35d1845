"""The ledger: what survives a kill, who may write, what a record says."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import socket
import time
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.config import Config
from orchestrator.errors import LedgerError
from orchestrator.ledger import Ledger
from orchestrator.plan.study import Trial
from orchestrator.records import EpochRow, best_row

DIGEST = "00ff00ff00ff00ff"
FORK = multiprocessing.get_context("fork")


def row(number: int, hmean: float = 0.5, *, best: bool = False, seconds: float = 2.0) -> EpochRow:
    return EpochRow(number, {"hmean": hmean, "precision": 0.6}, seconds, time_ms=1_000 * number, best=best)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.open(tmp_path / "work space")


def test_nothing_is_written_before_something_happened(ledger: Ledger) -> None:
    assert ledger.record(DIGEST).state == "queued"
    assert ledger.records() == ()
    assert not ledger.done(DIGEST)
    assert not ledger.workspace.exists()


def test_an_epoch_comes_back_as_it_was_written(ledger: Ledger) -> None:
    ledger.append_epoch(DIGEST, row(1, 0.1 + 0.2, best=True))
    assert ledger.record(DIGEST).epochs == (row(1, 0.1 + 0.2, best=True),)


def test_a_value_that_is_not_finite_reads_nan(ledger: Ledger) -> None:
    ledger.append_epoch(DIGEST, EpochRow(1, {"hmean": math.nan, "lr": math.inf}, 1.0, 0))
    metrics = ledger.record(DIGEST).epochs[0].metrics
    assert math.isnan(metrics["hmean"]) and math.isnan(metrics["lr"])


@given(cut=st.integers(min_value=0, max_value=400))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_kill_at_any_byte_loses_only_the_line_it_tore(tmp_path: Path, cut: int) -> None:
    ledger = Ledger.open(tmp_path / str(time.time_ns()))
    for number in (1, 2, 3):
        ledger.append_epoch(DIGEST, row(number))
    path = ledger.folder(DIGEST) / "epochs.jsonl"
    data = path.read_bytes()[:cut]
    path.write_bytes(data)
    whole = data.count(b"\n")
    assert [old.number for old in ledger.record(DIGEST).epochs] == list(range(1, whole + 1))
    ledger.append_epoch(DIGEST, row(whole + 1))
    assert [old.number for old in ledger.record(DIGEST).epochs] == list(range(1, whole + 2))


def test_an_epoch_reported_again_changes_nothing(ledger: Ledger) -> None:
    for number in (1, 2):
        ledger.append_epoch(DIGEST, row(number))
    before = (ledger.folder(DIGEST) / "epochs.jsonl").read_bytes()
    ledger.append_epoch(DIGEST, replace(row(1), seconds=9.0, time_ms=99))
    assert (ledger.folder(DIGEST) / "epochs.jsonl").read_bytes() == before


def test_a_resumed_epoch_with_other_metrics_replaces_it_and_what_followed(ledger: Ledger) -> None:
    for number in (1, 2, 3):
        ledger.append_epoch(DIGEST, row(number, 0.5))
    ledger.append_epoch(DIGEST, row(2, 0.7))
    assert ledger.record(DIGEST).epochs == (row(1, 0.5), row(2, 0.7))


def test_a_mangled_line_is_named(ledger: Ledger) -> None:
    ledger.append_epoch(DIGEST, row(1))
    path = ledger.folder(DIGEST) / "epochs.jsonl"
    path.write_bytes(b"oops\n" + path.read_bytes())
    with pytest.raises(LedgerError, match=r"epochs\.jsonl:1: not an epoch"):
        ledger.record(DIGEST)


def test_best_is_the_flagged_epoch_else_the_first_highest() -> None:
    assert best_row(()) is None
    # .7 gained less than min_delta over .6995, so the weights that were kept are epoch 2's
    flagged = (row(1, 0.5, best=True), row(2, 0.6995, best=True), row(3, 0.7))
    assert best_row(flagged) == flagged[1]
    plain = (row(1, 0.5), row(2, 0.7), row(3, 0.7))
    assert best_row(plain) == plain[1]


def test_states_count_attempts_and_keep_times(ledger: Ledger) -> None:
    with ledger.drive():
        ledger.set_state(DIGEST, "running")
        first = ledger.record(DIGEST)
        assert (first.state, first.attempts, first.host, first.pid) == ("running", 1, socket.gethostname(), os.getpid())
        ledger.set_state(DIGEST, "failed", "RuntimeError:\n  no luck")
        ledger.set_state(DIGEST, "running")
        ledger.append_epoch(DIGEST, row(1, 0.9, best=True))
        ledger.append_epoch(DIGEST, row(2, 0.8))
        ledger.set_state(DIGEST, "finished", "budget")
    last = ledger.record(DIGEST)
    assert (last.state, last.reason, last.attempts, last.seconds) == ("finished", "budget", 2, 4.0)
    assert (last.best_epoch, last.best) == (1, {"hmean": 0.9, "precision": 0.6})
    assert last.started_ms == first.started_ms is not None
    assert last.ended_ms is not None and last.ended_ms >= last.started_ms
    assert ledger.done(DIGEST)


def test_a_reason_is_one_line(ledger: Ledger) -> None:
    ledger.set_state(DIGEST, "failed", "RuntimeError:\n  no luck")
    assert ledger.record(DIGEST).reason == "RuntimeError: no luck"
    assert not ledger.done(DIGEST)


def test_running_without_a_driver_reads_queued(ledger: Ledger) -> None:
    with ledger.drive():
        ledger.set_state(DIGEST, "running")
        assert ledger.record(DIGEST).state == "running"
    assert ledger.record(DIGEST).state == "queued"


def _drive(ledger: Ledger, holds: Event, leave: Event) -> None:
    with ledger.drive():
        holds.set()
        leave.wait(30)


def test_a_second_driver_is_refused_until_the_first_is_killed(ledger: Ledger) -> None:
    holds, leave = FORK.Event(), FORK.Event()
    other = FORK.Process(target=_drive, args=(ledger, holds, leave))
    other.start()
    try:
        assert holds.wait(30)
        assert ledger.driving()
        with pytest.raises(LedgerError, match=f"pid {other.pid} on {socket.gethostname()} holds it"), ledger.drive():
            pass
    finally:
        other.kill()
        other.join()
    assert not ledger.driving()
    with ledger.drive():
        assert ledger.driving()


def test_one_process_trains_a_trial(ledger: Ledger) -> None:
    again = ledger.claim(DIGEST, wait_s=0.1)
    with ledger.claim(DIGEST), pytest.raises(LedgerError, match=f"pid {os.getpid()}"), again:
        pass
    with ledger.claim(DIGEST, wait_s=0.0):
        pass


def test_a_workspace_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match="must be a folder"), Ledger.open(tmp_path / "file").drive():
        pass


def test_another_format_is_refused(ledger: Ledger) -> None:
    with ledger.drive():
        pass
    (ledger.workspace / "ledger.json").write_text('{"format": 99}')
    with pytest.raises(LedgerError, match="`format` must be 1, got 99"):
        Ledger.open(ledger.workspace)


def test_a_trial_is_kept_as_plain_data_and_listed(ledger: Ledger) -> None:
    trial = Trial(DIGEST, "p/e-01", "p", "e", Config(max_epochs=3), settings={"optimizer.lr": 1e-4})
    ledger.register(trial)
    kept = ledger.trial(DIGEST)
    assert kept is not None and kept["settings"] == {"optimizer.lr": 1e-4}
    assert Config.model_validate(kept["config"]) == trial.config
    ledger.register(replace(trial, name="p/renamed"))
    assert [record.digest for record in ledger.records()] == [DIGEST]
    assert (ledger.trial(DIGEST) or {})["name"] == "p/renamed"


@given(st.lists(st.text(min_size=1, max_size=60), min_size=1, max_size=4, unique=True))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_scores_come_back_under_any_key(tmp_path: Path, keys: list[str]) -> None:
    ledger = Ledger.open(tmp_path / str(time.time_ns()))
    for place, key in enumerate(keys):
        ledger.put_scores(DIGEST, key, {"place": place})
    assert [ledger.scores(DIGEST, key) for key in keys] == [{"place": place} for place in range(len(keys))]
    assert ledger.scores(DIGEST, "".join(keys) + "?") is None


def test_a_ledger_travels(ledger: Ledger) -> None:
    assert pickle.loads(pickle.dumps(ledger)) == ledger  # noqa: S301
