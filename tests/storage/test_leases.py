"""Leases: of many who want a thing one gets it, a dead holder is followed, a living one is not, a lost one stops."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from dataclasses import asdict, replace
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from orchestrator.errors import LedgerError
from orchestrator.ledger import Ledger
from orchestrator.records import EpochRow
from orchestrator.storage import leases
from orchestrator.storage.leases import Attempt, attempts, held, holder, verify
from orchestrator.storage.stores import FolderStore

FORK = multiprocessing.get_context("fork")
DIGEST = "00ff00ff00ff00ff"
PLACE = f"trials/{DIGEST}/leases"


def elsewhere(age_s: float, *, held_s: float = 5.0, **changes: object) -> Attempt:
    """An attempt on another machine whose last sign of life is `age_s` old."""
    now_ms = time.time_ns() // 1_000_000
    beat_ms = now_ms - round(1000 * age_s)
    attempt = Attempt("far", 7, "far/boot/pid:[1]", 1.0, beat_ms - round(1000 * held_s), beat_ms)
    return replace(attempt, **changes)  # type: ignore[arg-type]


def put(store: FolderStore, number: int, attempt: Attempt) -> None:
    assert store.create(f"{PLACE}/{number:06d}.json", json.dumps(asdict(attempt)).encode())


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "w")


def _race(store: FolderStore, start: Barrier, rounds: int) -> None:
    for _ in range(rounds):
        start.wait(30)
        try:
            with held(store, PLACE, "one", "wait"):
                inside = store.root / "inside"
                inside.touch(exist_ok=False)  # fails where another is inside
                with (store.root / "winners").open("a") as stream:
                    stream.write(f"{os.getpid()}\n")
                time.sleep(0.05)  # the others find it held
                inside.unlink()
        except LedgerError:
            pass
        start.wait(30)


def test_of_many_at_once_one_gets_it(store: FolderStore) -> None:
    start, rounds = FORK.Barrier(6), 8
    racers = [FORK.Process(target=_race, args=(store, start, rounds)) for _ in range(6)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0] * 6
    winners = (store.root / "winners").read_text().split()
    # whoever comes late to a round may find the first one gone already, so a round has one winner or more
    assert rounds <= len(winners) == len(attempts(store, PLACE))
    assert holder(store, PLACE) is None


def _hold_forever(store: FolderStore) -> None:
    with held(store, PLACE, "one", "wait"):
        (store.root / "held").touch()
        time.sleep(60)


def test_a_killed_holder_is_followed_at_once_even_before_it_is_reaped(store: FolderStore) -> None:
    other = FORK.Process(target=_hold_forever, args=(store,))
    other.start()
    while not (store.root / "held").exists():
        time.sleep(0.01)
    told = rf"trials/{DIGEST}: one, and pid {other.pid} on .* holds it; wait"
    with pytest.raises(LedgerError, match=told), held(store, PLACE, "one", "wait"):
        pass
    os.kill(other.pid or 0, signal.SIGSTOP)  # it sleeps, so it still holds
    with pytest.raises(LedgerError), held(store, PLACE, "one", "wait", wait_s=0.3):
        pass
    os.kill(other.pid or 0, signal.SIGKILL)
    with held(store, PLACE, "one", "wait", wait_s=30):
        assert (found := holder(store, PLACE)) is not None and found.pid == os.getpid()
    other.join()


def test_a_number_that_was_given_again_is_not_its_holder(store: FolderStore) -> None:
    mine = leases._begin(1.0, 0.0)
    put(store, 1, mine)
    assert holder(store, PLACE) == mine
    put(store, 2, replace(mine, born_s=mine.born_s - 3600))
    assert holder(store, PLACE) is None


def test_another_machine_keeps_it_until_its_lease_runs_out(store: FolderStore) -> None:
    # lasts 60 s, and 60 s more for clocks and caches: a heartbeat 30 s old holds for 90 s, one 121 s old no more
    put(store, 1, elsewhere(30))
    told = r"pid 7 on far holds it \(if that machine is gone, in (90|89|88) s no more\)"
    with pytest.raises(LedgerError, match=told), held(store, PLACE, "one", "wait"):
        pass
    put(store, 2, elsewhere(121))
    with held(store, PLACE, "one", "wait"):
        pass
    # 60 + 60 - 119.5 = .5 s: whoever may wait gets it, even if it may not wait so long for one that lives here
    put(store, 4, elsewhere(119.5))
    with held(store, PLACE, "one", "wait", wait_s=0.01):
        assert len(attempts(store, PLACE)) == 5


def test_who_was_followed_stops(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "w")
    store = FolderStore(ledger.workspace)
    row = EpochRow(1, {"hmean": 0.5}, 1.0, 1)
    verify(store, PLACE)  # never held: nothing to lose
    with ledger.claim(DIGEST):
        ledger.append_epoch(DIGEST, row)
        put(store, 2, elsewhere(0))
        with pytest.raises(LedgerError, match=r"silent for so long that another took over \(pid 7 on far"):
            ledger.append_epoch(DIGEST, replace(row, number=2))
    assert ledger.record(DIGEST).epochs == (row,)


def test_a_heartbeat_is_a_sign_of_life(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "BEAT_S", 0.02)
    with held(store, PLACE, "one", "wait"):
        (first,) = attempts(store, PLACE)
        until = time.monotonic() + 20
        while attempts(store, PLACE)[0].beat_ms == first.beat_ms:
            assert time.monotonic() < until
            time.sleep(0.01)
    (last,) = attempts(store, PLACE)
    assert last.ended and last.started_ms == first.started_ms


def test_cost_counts_devices_over_all_attempts_until_their_last_heartbeat(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "w")
    store = FolderStore(ledger.workspace)
    assert ledger.record(DIGEST).cost == (0.0, "cpu")
    put(store, 1, elsewhere(500, held_s=10, cpus=4, gpus=0))  # killed: 10 s x 4 CPUs
    assert ledger.record(DIGEST).cost == (40.0, "cpu")
    put(store, 2, elsewhere(300, held_s=3, cpus=8, gpus=2, ended=True))  # 3 s x 2 GPUs, 3 s x 8 CPUs
    record = ledger.record(DIGEST)
    assert record.cost == (6.0, "gpu") and record.cpu_s == 64.0


def test_a_driver_leaves_one_lease(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path / "w")
    for _ in range(3):
        with ledger.drive():
            pass
    assert [path.name for path in (ledger.workspace / "driver").iterdir()] == ["000003.json"]


def test_a_mangled_lease_is_named(store: FolderStore) -> None:
    store.write(f"{PLACE}/000001.json", b"oops")
    with pytest.raises(LedgerError, match=r"000001\.json: not a lease .*; remove it if nothing runs here"):
        holder(store, PLACE)
