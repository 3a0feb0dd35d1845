"""`kill -9` of a cluster that `ray start` made, under its driver or with it: the end is that of a run left alone."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from killing import ENOUGH_S, PLAN, Run, compare, epochs
from machines import Machine, free_port, head_words, ray_folder

SILENT_MS = 600_000
WORDS = ("--only", "baseline", "--only", "rates", "--set", "defaults.max_epochs=6")  # ranks are killed in test_kills


@contextmanager
def head(port: int, log: Path) -> Iterator[Machine]:
    """A cluster of one machine."""
    with ray_folder() as folder:
        machine = Machine(head_words(port, folder, cpus=2), {"OMP_NUM_THREADS": "1"}, log)
        try:
            machine.wait_for("Ray runtime started")
            yield machine
        finally:
            machine.kill()


def wait_for_epochs(run: Run, home: Path, count: int) -> None:
    until = time.monotonic() + ENOUGH_S
    while epochs(home) < count:
        assert run.process.poll() is None and time.monotonic() < until, run.told[-3000:]
        time.sleep(0.1)


def move_leases(home: Path, silent_ms: int) -> list[Path]:
    """Let all leases that did not end be those of another machine, whose last sign of life is so long ago."""
    moved = []
    for path in [*home.glob("*/driver/*.json"), *home.glob("*/trials/*/leases/*.json")]:
        lease = json.loads(path.read_text())
        if not lease["ended"]:
            lease |= {"host": "gone", "place": "gone/boot/pid", "beat_ms": time.time_ns() // 1_000_000 - silent_ms}
            path.write_text(json.dumps(lease))
            moved.append(path)
    return moved


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_plan_survives_the_death_of_its_head_and_of_its_machine(tmp_path: Path):
    plan, killed = tmp_path / "tiny.yaml", tmp_path / "killed"
    plan.write_text(PLAN, encoding="utf-8")
    port = free_port()
    cluster = f"127.0.0.1:{port}"
    with head(port, tmp_path / "head-1.log") as machine:
        run = Run(killed, plan, *WORDS, cluster=cluster)
        wait_for_epochs(run, killed, 2)
        machine.kill_services()
        assert run.process.wait(timeout=ENOUGH_S) == 2, run.told[-3000:]
        message = f"RAY_ADDRESS={cluster}: the Ray cluster is gone"
        assert run.told.count(message) == 1 and "Traceback" not in run.told, run.told[-3000:]

    with head(port, tmp_path / "head-2.log") as machine:
        before = epochs(killed)
        run = Run(killed, plan, *WORDS, cluster=cluster)
        wait_for_epochs(run, killed, before + 2)
        machine.kill(run.process.pid)
        run.process.wait()
    assert move_leases(killed, silent_ms=0)
    with head(port, tmp_path / "head-3.log"):
        refused = Run(killed, plan, *WORDS, cluster=cluster)  # that machine may still be there
        assert refused.wait() == 2
        assert "one driver a workspace, and pid" in refused.told and "if that machine is gone, in 1" in refused.told
        assert move_leases(killed, silent_ms=SILENT_MS)
        again = Run(killed, plan, *WORDS, cluster=cluster)
        assert again.wait() == 0, again.told[-3000:]
    alone = Run(tmp_path / "alone", plan, *WORDS)
    assert alone.wait() == 0, alone.told
    compare(tmp_path / "alone", killed)
