"""A full disk: told by what it raises, or by trying; it stops a run, loses nothing, and the same command goes on."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.errors import LedgerError

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
SIGNS: Final = tuple(os.strerror(code) for code in FULL)  # libraries (safetensors, Ray) hand an OSError on as text
PROBE_BYTES: Final = 1 << 16
REASON: Final = "the disk is full"  # of a trial that stopped for it


class DiskFull(LedgerError):
    """The workspace's disk is full."""


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk is what an exception, or one that it follows from, tells of."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, DiskFull) or (isinstance(one, OSError) and one.errno in FULL):
            return True
        if any(sign in str(one) for sign in SIGNS):
            return True
        waiting += [one.__cause__, one.__context__, getattr(one, "cause", None)]
    return False


def has_room(folder: Path) -> bool:
    """Whether a small file can be written there."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(bytes(PROBE_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if is_full(error):
            return False
        raise
    return True


def refuse(folder: Path) -> DiskFull:
    """What a person is told."""
    free = shutil.disk_usage(folder).free / 1e9 if folder.exists() else 0.0
    return DiskFull(
        f"{folder}: the disk is full ({free:.2f} GB left, which was not enough), so the run stops here; all epochs and "
        "checkpoints that were reported are kept. Free some space (`python -m orchestrator gc PLAN` shows what nothing "
        "needs any more), and run the same command again"
    )


@contextmanager
def told(folder: Path) -> Iterator[None]:
    """Let a full disk, whatever it made fail, end as one clear message.

    Raises:
        DiskFull: an exception inside follows from a full disk.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, DiskFull) or not is_full(error):
            raise
        raise refuse(folder) from error
