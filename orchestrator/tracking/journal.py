"""The journal of a roadmap: all that tracking shows can be replayed from it, on any MLflow, at any time.

    <workspace>/journal.jsonl       one event a line (see `events`); one writer at a time, any number of readers

A (kind, key) is written once, so a driver that was killed and starts again says everything anew and only what is new
stays. What may change (a phase's text, a decision) is written again where its content did; the last one counts.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from orchestrator.errors import LedgerError
from orchestrator.records import Events
from orchestrator.tracking.events import JOURNAL, Event, plain, read_events
from orchestrator.tracking.recorder import Recorder

__all__ = ["Event", "Events", "Journal", "Recorder", "content_digest", "read_events"]


def now_ms() -> int:
    """Unix time in ms."""
    return time.time_ns() // 1_000_000


def content_digest(value: Any) -> str:
    """16 hex digits over plain JSON, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return blake2b(text.encode("utf-8"), digest_size=8).hexdigest()


class Journal:
    """The one writer of a workspace's journal; a context manager, safe to share between threads.

    Args:
        workspace: its folder; made if absent.
        clock: Unix time in ms, for tests.

    Raises:
        LedgerError: another process writes this journal, the folder is not writable, or a line inside is damaged.
    """

    def __init__(self, workspace: Path, *, clock: Callable[[], int] = now_ms) -> None:
        self.workspace = workspace
        self.path = workspace / JOURNAL
        self._clock = clock
        self._mutex = threading.Lock()
        self._known: set[tuple[str, str]] = set()
        self._latest: dict[tuple[str, str], str] = {}  # (kind, name) -> digest of its last content
        self._seq = 0
        self._fd = _open_exclusively(self.path)
        try:
            self._recover()
        except BaseException:
            self.close()
            raise
        self.append("journal", "id", {"id": uuid.uuid4().hex, "format": 1})

    def _recover(self) -> None:
        """Read what is there and cut a torn last line off, so that the next one begins on a line of its own."""
        end = 0
        for event, end in read_events(self.path):  # noqa: B007  (the last offset is used below)
            self._note(event)
        if os.fstat(self._fd).st_size > end:
            os.ftruncate(self._fd, end)
            os.fsync(self._fd)

    def _note(self, event: Event) -> None:
        self._seq = event.seq
        self._known.add((event.kind, event.key))
        name, mark, digest = event.key.rpartition("@")
        if mark:
            self._latest[event.kind, name] = digest.partition(".")[2]

    def has(self, kind: str, key: str) -> bool:
        """Whether this event stands in the journal."""
        return (kind, key) in self._known

    def has_prefix(self, kind: str, prefix: str) -> bool:
        """Whether an event of a kind stands in the journal whose key begins so."""
        return any(known == kind and key.startswith(prefix) for known, key in self._known)

    def count(self, kind: str) -> int:
        """How many events of a kind stand in the journal."""
        return sum(known == kind for known, _ in self._known)

    def append(self, kind: str, key: str, payload: Mapping[str, Any]) -> bool:
        """Write an event and sync it to the disk; False, and nothing written, where (kind, key) is known already.

        Args:
            payload: plain values, dataclasses, pydantic models, paths; NaN and infinities become null.
        """
        with self._mutex:
            if (kind, key) in self._known:
                return False
            self._write(kind, key, plain(payload))
            return True

    def append_changed(self, kind: str, name: str, payload: Mapping[str, Any]) -> bool:
        """Append where the content differs from the last one under this kind and name; the key is made from both."""
        value = plain(payload)
        digest = content_digest(value)
        with self._mutex:
            if self._latest.get((kind, name)) == digest:
                return False
            self._write(kind, f"{name}@{self._seq + 1}.{digest}", value)
            return True

    def _write(self, kind: str, key: str, payload: Mapping[str, Any]) -> None:
        event = Event(self._seq + 1, self._clock(), kind, key, payload)
        line = event.line()
        start = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: wrote {written} of {len(line)} bytes")
            os.fsync(self._fd)
        except OSError as error:
            os.ftruncate(self._fd, start)  # half a line would hide all later ones
            raise LedgerError(f"{self.path}: cannot be written ({error}); free space on its disk") from error
        self._note(event)

    def close(self) -> None:
        """Release the journal; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_exclusively(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise LedgerError(
            f"{path}: the journal must be writable, but {error.strerror}; mend the rights, or choose another workspace "
            "with `workspace:` or ORCHESTRATOR_WORKSPACE"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise LedgerError(
            f"{path}: one driver at a time writes a workspace, and another does now; wait for it or stop it"
        ) from error
    return descriptor
