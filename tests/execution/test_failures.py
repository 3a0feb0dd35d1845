"""What a failure means, which rank's failure counts, and how often a trial is started again; no cluster."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import ray
import torch
from studies import make_trial

from detector.errors import DataError, StartAgain, TrainingFailed
from orchestrator import incidents
from orchestrator.errors import LedgerError
from orchestrator.execution.failures import of_ranks, verdict
from orchestrator.execution.retries import HALF, LOST, again
from orchestrator.incidents import Incident
from orchestrator.ledger import Ledger
from orchestrator.records import EpochRow
from orchestrator.storage.disk import REASON, DiskFull


def from_disk(code: int) -> DataError:
    """As `read_json` and the readers of images say it."""
    try:
        try:
            raise OSError(code, os.strerror(code))
        except OSError as error:
            raise DataError(f"a.jpg: cannot be read ({error.strerror}); check the path") from error
    except DataError as error:
        return error


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TrainingFailed("the loss is nan in epoch 3"), "fault"),
        (ValueError("shapes"), "fault"),
        (AssertionError(), "fault"),
        (RuntimeError("The size of tensor a (3) must match"), "fault"),
        (RuntimeError("CUDA error: device-side assert triggered\nmore"), "fault"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "fault"),  # building, validating
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "full"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "fault"),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT)), "fault"),
        (from_disk(errno.ENOENT), "fault"),
        (LedgerError("ledger.json: `format` must be 1, got 9"), "fault"),
        (StartAgain("not enough memory"), "memory"),
        (from_disk(errno.EIO), "transient"),
        (DataError("a.jpg: cannot be read (Stale file handle); check the path"), "transient"),  # from a loader process
        (OSError(errno.ESTALE, os.strerror(errno.ESTALE)), "transient"),
        (ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)), "transient"),
        (TimeoutError("timed out"), "transient"),
        (LedgerError("trials/d: one process trains a trial, and pid 7 on b holds it; stop it"), "held"),
        (LedgerError("w/trials/d: this process was silent for so long that another took over (pid 7)"), "held"),
        (RuntimeError("CUDA error: unspecified launch failure"), "transient"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "transient"),
        (RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:7"), "transient"),
        (torch.distributed.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1"), "transient"),
        (ray.exceptions.ActorDiedError(), "transient"),
    ],
)
def test_what_a_failure_means(error: Exception, kind: str) -> None:
    found = verdict(error)
    assert found.kind == kind
    assert "\n" not in found.reason


def test_reasons_are_one_line_with_their_kind() -> None:
    assert verdict(TrainingFailed("the loss is nan\nmore")).reason == "the loss is nan"
    assert verdict(ValueError("shapes")).reason == "ValueError: shapes"
    assert verdict(OSError(errno.ESTALE, "Stale file handle")).reason == "OSError: [Errno 116] Stale file handle"


PEER = RuntimeError("Connection closed by peer")
DEAD = ray.exceptions.ActorDiedError()


@pytest.mark.parametrize(
    ("failures", "counts"),
    [
        ({0: PEER, 1: TrainingFailed("nan")}, 1),
        ({0: PEER, 1: DEAD}, 1),
        ({0: DEAD, 1: DataError("a.jpg: damaged")}, 1),
        ({0: ValueError("caused by the loss of rank 1?"), 1: DEAD}, 1),
        ({0: PEER, 1: ValueError("bug")}, 1),
        ({0: PEER, 1: StartAgain("half"), 2: DEAD}, 1),
        ({0: PEER, 1: PEER}, 0),
        ({0: PEER, 1: OSError(errno.EIO, "Input/output error")}, 1),
    ],
)
def test_the_rank_that_the_others_follow_from(failures: dict[int, Exception], counts: int) -> None:
    rank, error = of_ranks(failures)
    assert rank == counts and error is failures[counts]


def test_a_trial_is_started_again_so_often(ledger: Ledger) -> None:
    trial = make_trial(1)
    ledger.register(trial)
    ledger.append_epoch(trial.digest, EpochRow(1, {"hmean": 0.5}, 1.0, 1))
    ledger.set_state(trial.digest, "running")
    assert again(ledger, trial.digest, "r1", 2)
    ledger.set_state(trial.digest, "queued", "OSError: stale")
    assert again(ledger, trial.digest, "r1", 2)
    ledger.set_state(trial.digest, "queued", HALF)
    assert again(ledger, trial.digest, "r1", 2)  # half a batch is not counted
    ledger.set_state(trial.digest, "running")
    assert not again(ledger, trial.digest, "r1", 2)
    record = ledger.record(trial.digest)
    assert (record.state, record.reason) == ("failed", f"{LOST}; it was started again 2 times")
    assert [(one.kind, one.epoch, one.reason) for one in record.incidents] == [
        ("retry", 1, LOST),
        ("retry", 1, "OSError: stale"),
    ]
    assert not again(ledger, trial.digest, "r2", 2)  # it has failed
    ledger.set_state(trial.digest, "queued")
    assert again(ledger, trial.digest, "r2", 2)  # whoever runs the plan again wants it tried again
    ledger.set_state(trial.digest, "queued", "x")
    assert not again(ledger, trial.digest, "r3", 0)
    assert ledger.record(trial.digest).reason == "x"


def test_a_full_disk_stops_all(ledger: Ledger) -> None:
    trial = make_trial(1)
    ledger.register(trial)
    ledger.set_state(trial.digest, "queued", REASON)
    with pytest.raises(DiskFull, match="the disk is full"):
        again(ledger, trial.digest, "r", 2)
    assert ledger.record(trial.digest).state == "queued"  # it goes on with the next run


def test_incidents_survive_a_torn_line(tmp_path: Path) -> None:
    first, second = Incident("memory", 0, "half"), Incident("retry", 2, "its disk\nfailed", "r")
    incidents.append(tmp_path, first)
    with (tmp_path / "incidents.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "ret')
    incidents.append(tmp_path, second)
    found = incidents.read(tmp_path)
    assert [(one.kind, one.epoch, one.run) for one in found] == [("memory", 0, ""), ("retry", 2, "r")]
    assert incidents.summary(found) == "half; started again after epoch 2: its disk failed"
    assert all(one.time_ms > 0 for one in found)
    assert incidents.read(tmp_path / "none") == ()
