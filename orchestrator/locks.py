"""One holder of a folder at a time, by flock: it ends with its process, however that ends."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.errors import LedgerError

# A probe of `is_held` holds a shared lock for microseconds, so a refused holder looks again before it believes it.
LEAST_WAIT_S: Final = 0.25
PAUSE_S: Final = 0.05


@contextmanager
def held(path: Path, rule: str, remedy: str, wait_s: float = LEAST_WAIT_S) -> Iterator[None]:
    """Hold `path` and name this process in it.

    Raises:
        LedgerError: another process holds it after `wait_s`: `<folder>: <rule>, and <holder> holds it; <remedy>`.
        OSError: the file cannot be opened.
    """
    with path.open("a+", encoding="utf-8") as stream:
        if not _lock(stream.fileno(), fcntl.LOCK_EX, tries=1 + math.ceil(wait_s / PAUSE_S)):
            stream.seek(0)
            holder = stream.read().strip() or "another"
            raise LedgerError(f"{path.parent}: {rule}, and {holder} holds it; {remedy}")
        stream.truncate(0)
        stream.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
        stream.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether a process, this one or another, holds `path` now."""
    try:
        stream = path.open("rb")
    except OSError:
        return False
    with stream:
        return not _lock(stream.fileno(), fcntl.LOCK_SH, tries=1)


def _lock(descriptor: int, kind: int, *, tries: int) -> bool:
    for attempt in range(tries):
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise LedgerError(
                    f"the workspace's file system cannot lock files ({error.strerror}); use another"
                ) from error
            if attempt + 1 < tries:
                time.sleep(PAUSE_S)
    return False
