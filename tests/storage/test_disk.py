"""A full disk, a real one of 1 MB or so: nothing that was written is lost, what fails says so, and it can go on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from detector.checkpoint import replacing_folder
from orchestrator.errors import LedgerError
from orchestrator.ledger import Ledger
from orchestrator.records import EpochRow
from orchestrator.storage.disk import DiskFull, has_room, is_full, told
from orchestrator.tracking.journal import Journal

DIGEST = "00ff00ff00ff00ff"


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A file system of `size`; the test is skipped where mounting is not permitted."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", "1m") as place:
        yield place


def fill(place: Path) -> Path:
    """Take all room that is left, to the last byte."""
    ballast = place / "ballast"
    with ballast.open("ab", buffering=0) as stream, pytest.raises(OSError, match="No space left"):
        while True:
            stream.write(bytes(4096))
    return ballast


def row(number: int) -> EpochRow:
    return EpochRow(number, {f"metric{index}": index / 7 for index in range(200)}, 1.0, number)


def test_the_ledger_loses_nothing(small: Path) -> None:
    ledger = Ledger.open(small / "w")
    with ledger.drive():
        ledger.set_state(DIGEST, "running")
        ledger.append_epoch(DIGEST, row(1))
        before = ledger.record(DIGEST)
        ballast = fill(small)
        for _ in range(3):
            message = r"w: the disk is full \(0\.00 GB left.*gc PLAN.*same command again"
            with pytest.raises(DiskFull, match=message), told(ledger.workspace):
                ledger.append_epoch(DIGEST, row(2))
        with pytest.raises(OSError, match="No space left"):
            ledger.set_state(DIGEST, "finished", "budget")
        assert not has_room(ledger.workspace)
        assert ledger.record(DIGEST) == before
        assert [path.name for path in ledger.folder(DIGEST).iterdir() if path.name.startswith(".")] == []
        ballast.unlink()
        assert has_room(ledger.workspace)
        ledger.append_epoch(DIGEST, row(2))
        ledger.set_state(DIGEST, "finished", "budget")
    assert ledger.record(DIGEST).epochs == (row(1), row(2))


def test_checkpoints_and_journals_lose_nothing(small: Path) -> None:
    best = small / "best"
    with replacing_folder(best) as draft:
        (draft / "weights").write_bytes(b"old")
    with Journal(small / "w") as journal:
        journal.append("note", "a", {})
        ballast = fill(small)
        with pytest.raises(OSError, match="No space left"), replacing_folder(best) as draft:
            (draft / "weights").write_bytes(bytes(1 << 20))
        with pytest.raises(LedgerError, match="cannot be written") as caught:
            for number in range(100):
                journal.append("note", f"b{number}", {"text": "x" * 500})
        assert is_full(caught.value)
        assert (best / "weights").read_bytes() == b"old"
        ballast.unlink()
        journal.append("note", "c", {})
    with Journal(small / "w") as journal:
        assert journal.has("note", "a") and journal.has("note", "c")
        assert not journal.append("note", "c", {})


def test_a_full_disk_is_known_through_what_follows_from_it() -> None:
    def raised(first: BaseException) -> BaseException:
        try:
            try:
                raise first
            except BaseException as error:
                raise RuntimeError("Tune failed") from error
        except RuntimeError as error:
            return error

    assert is_full(raised(OSError(errno.ENOSPC, "x")))
    assert is_full(raised(OSError(errno.EDQUOT, "x")))
    # safetensors raises an error of its own with the text of the system's
    assert is_full(raised(ValueError('Error while serializing: Os { code: 28, message: "No space left on device" }')))
    assert not is_full(raised(OSError(errno.EACCES, "x")))
    assert not is_full(None)
    with pytest.raises(KeyError), told(Path()):
        raise KeyError


PLAN = """
roadmap: tiny
data: {synthetic: {train: 4, val: 2, size: 160}}
defaults:
  {encoder: mobilenetv3_small_050, encoder_weights: none, inner_channels: 16, output_channels: 16, image_size: 160,
   batch_size: 2, max_epochs: 6, resources: {cpus: 1}}
phases: [{id: one, experiments: [{id: a}]}]
"""


@pytest.mark.slow
def test_a_driver_stops_with_a_message_and_goes_on_once_there_is_room(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PLAN)
    root = Path(__file__).resolve().parents[2]
    with mounted(tmp_path / "disk", "200m") as place:
        taken = {"ORCHESTRATOR_WORKSPACE": str(place / "w"), "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "MLFLOW_"))} | taken

        def start() -> subprocess.Popen[str]:
            command = [sys.executable, "-m", "orchestrator", "tiny.yaml"]
            pipe = subprocess.PIPE
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=pipe, text=True)

        def epochs() -> list[int]:
            return [row.number for record in Ledger.open(place / "w" / "tiny").records() for row in record.epochs]

        first, until = start(), time.monotonic() + 400
        while not epochs():
            assert first.poll() is None and time.monotonic() < until, first.communicate()
            time.sleep(0.1)
        ballast = fill(place)
        out, err = first.communicate(timeout=400)
        assert first.returncode == 2, out + err
        assert "the disk is full" in err and "run the same command again" in err and "Traceback" not in err
        kept = epochs()
        assert kept == list(range(1, len(kept) + 1)) and len(kept) < 6
        ballast.unlink()
        second = start()
        out, err = second.communicate(timeout=400)
        assert second.returncode == 0, out + err
        assert epochs() == [1, 2, 3, 4, 5, 6]
