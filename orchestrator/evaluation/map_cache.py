"""The size of `<workspace>/maps`: folders least recently used go first, never one that a process holds.

A map takes about a twentieth of its pixels (zlib on uint8): 400 receipts at 1024 px are 20 MB, and the default has room
for a thousand such folders. ORCHESTRATOR_MAPS_GB sets another limit; what is evicted is computed again when it is asked
for. A folder in use has a shared lock on its file `lock`, whose time of change is the time of the last use.
"""

from __future__ import annotations

import errno
import fcntl
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from detector.errors import DataError, InputError

VARIABLE: Final = "ORCHESTRATOR_MAPS_GB"
DEFAULT_GB: Final = 20.0
LOCK, GONE = "lock", ".gone-"


def limit_bytes() -> int:
    """The limit of one workspace's maps; InputError where the variable is no number >= 0."""
    text = os.environ.get(VARIABLE, str(DEFAULT_GB))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InputError(f"{VARIABLE}: must be a number of GB >= 0, got {text!r}; {DEFAULT_GB:g} is the default")
    return int(value * 1e9)


def hold(folder: Path) -> IO[bytes]:
    """Make `folder` and keep it from eviction until the returned file is closed or collected; notes its use."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            stream = (folder / LOCK).open("ab")
        except FileNotFoundError:  # evicted between the two lines
            continue
        fcntl.flock(stream.fileno(), fcntl.LOCK_SH)
        if _is_at(stream, folder / LOCK):
            os.utime(stream.fileno())
            return stream
        stream.close()  # evicted while this waited: the lock is another folder's now


def trim(maps: Path, limit: int) -> tuple[str, ...]:
    """Delete folders, least recently used first, until the rest fits into `limit` bytes; the names of those deleted.

    Folders in use are counted and stay: a run that needs more than the limit gets it.
    """
    if not maps.is_dir():
        return ()
    for rest in maps.glob(f"{GONE}*"):  # of a process that was killed here
        shutil.rmtree(rest, ignore_errors=True)
    sizes = {folder: size_of(folder) for folder in maps.iterdir() if folder.is_dir()}
    total, gone = sum(sizes.values()), []
    for folder in sorted(sizes, key=_last_use):
        if total <= limit:
            break
        if evict(folder):
            total -= sizes[folder]
            gone.append(folder.name)
    return tuple(gone)


@contextmanager
def room(folder: Path) -> Iterator[None]:
    """Say what to do where the disk is full; DataError then."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        used = size_of(folder.parent) / 1e9
        raise DataError(
            f"{folder}: the disk is full; probability maps take {used:.1f} GB of it: free some space, or set a smaller "
            f"{VARIABLE} (now {limit_bytes() / 1e9:g}), and run the command again"
        ) from error


def evict(folder: Path) -> bool:
    """Delete a folder of maps that nobody holds; whether it is gone."""
    try:
        stream = (folder / LOCK).open("ab")
    except OSError:  # gone already, or not ours to delete
        return False
    with stream:
        try:
            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        if not _is_at(stream, folder / LOCK):
            return False
        moved = folder.with_name(GONE + folder.name)
        folder.rename(moved)  # out of sight at once: a folder half deleted must not be taken for one half computed
        shutil.rmtree(moved, ignore_errors=True)
        return True


def _is_at(stream: IO[bytes], path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(stream.fileno()))


def _last_use(folder: Path) -> float:
    """Of a folder of an earlier version, which has no lock: when it was last written to."""
    for path in (folder / LOCK, folder):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # another process tidies up
            continue
    return total
