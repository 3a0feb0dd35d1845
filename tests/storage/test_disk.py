"""A full disk, a real one of 1 MB: nothing that was written is lost, what fails says so, and it goes on afterwards."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from detector.checkpoint import replacing_folder
from orchestrator.errors import LedgerError
from orchestrator.ledger import Ledger
from orchestrator.records import EpochRow
from orchestrator.storage.disk import DiskFull, has_room, is_full, told
from orchestrator.tracking.journal import Journal

DIGEST = "00ff00ff00ff00ff"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"mounting is not permitted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


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
