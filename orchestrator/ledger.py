"""What has happened to each trial, on storage that every node sees: the truth that a run resumes from.

    <workspace>/ledger.json               the format's number
    <workspace>/driver.lock               held (flock) by the one driver of this workspace
    <workspace>/trials/<digest>/          trial.json  epochs.jsonl  state.json  scores/  best/  last/

Epochs are appended and synced line by line, everything else is replaced whole; so a kill at any instant costs at most
the line that was being written. Times are ms since 1970 (`_ms`) or s (`_s`, `seconds`); epochs count from 1.
"""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, Literal, Protocol, cast, get_args
from urllib.parse import quote

from detector.files import read_json, write_json
from orchestrator.errors import LedgerError
from orchestrator.plan.study import Trial

FORMAT: Final = 1
State = Literal["queued", "running", "finished", "pruned", "failed"]
ENDED: Final[frozenset[State]] = frozenset({"finished", "pruned", "failed"})
# A probe of `driving()` holds a shared lock for microseconds, so a refused driver looks again before it believes it.
LOCK_TRIES, LOCK_PAUSE_S = 5, 0.05


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch as training reported it.

    Attributes:
        number: from 1.
        metrics: name -> value; NaN where a value was not finite.
        seconds: what it took, validation included.
        time_ms: when it ended.
        best: it was the best so far, and `best/` holds its weights.
    """

    number: int
    metrics: Mapping[str, float]
    seconds: float
    time_ms: int
    best: bool = False


@dataclass(frozen=True, slots=True)
class TrialRecord:
    """What the ledger knows of one trial.

    Attributes:
        state: `running` only while a driver holds the workspace; without one it reads `queued`, ready to go on.
        epochs: in order, without gaps or repeats.
        best: metrics of the best epoch, or None before the first.
        best_epoch: its number, or None.
        seconds: what all epochs took, over all attempts.
        reason: why it ended (`patience`, `budget`, `rung 4: ...`, the error), in one line.
        attempts: how often it was started.
        host, pid: where the last attempt was started from.
        started_ms, ended_ms: first start and last end.
    """

    digest: str
    state: State
    epochs: tuple[EpochRow, ...] = ()
    best: Mapping[str, float] | None = None
    best_epoch: int | None = None
    seconds: float = 0.0
    reason: str = ""
    attempts: int = 0
    host: str = ""
    pid: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None


class Events(Protocol):
    """Who wants to know what happens: progress on a terminal, the journal of tracking.

    Calls come from the driver's process, one at a time, in this order for a trial: started, epochs, ended. After a
    resume the earlier epochs come again.
    """

    def trial_started(self, trial: Trial) -> None: ...

    def epoch(self, trial: Trial, row: EpochRow) -> None: ...

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None: ...


@dataclass(frozen=True, slots=True)
class _Status:
    """What state.json holds."""

    state: State = "queued"
    reason: str = ""
    host: str = ""
    pid: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Ledger:
    """The trials of one workspace. A plain value: it may be sent to any process that sees the folder."""

    workspace: Path

    @classmethod
    def open(cls, workspace: Path) -> Ledger:
        """The ledger of `workspace`, which need not exist yet; nothing is written.

        Raises:
            LedgerError: another version of this software wrote it.
        """
        ledger = cls(Path(workspace).absolute())  # trials run in folders of their own
        if ledger._format_path.exists():
            found = read_json(ledger._format_path).get("format")
            if found != FORMAT:
                raise LedgerError(
                    f"{ledger._format_path}: `format` must be {FORMAT}, got {found}; use the version of this software "
                    "that wrote it, or another workspace"
                )
        return ledger

    @property
    def _format_path(self) -> Path:
        return self.workspace / "ledger.json"

    def folder(self, digest: str) -> Path:
        """Where a trial keeps its files; it may not exist yet."""
        return self.workspace / "trials" / digest

    # --- one driver -------------------------------------------------------------------------------------------------

    @contextmanager
    def drive(self) -> Iterator[None]:
        """Hold the workspace as its one driver.

        Raises:
            LedgerError: another driver holds it (its host and pid are named), or the folder cannot be written.
        """
        path = self.workspace / "driver.lock"
        try:
            self.workspace.mkdir(parents=True, exist_ok=True)
            stream = path.open("a+", encoding="utf-8")
        except OSError as error:
            raise LedgerError(
                f"{self.workspace}: the workspace must be a folder that can be written, but {error.strerror}; "
                "choose another with `workspace:` or ORCHESTRATOR_WORKSPACE"
            ) from error
        with stream:
            if not _lock(stream.fileno(), fcntl.LOCK_EX, tries=LOCK_TRIES):
                stream.seek(0)
                raise LedgerError(
                    f"{self.workspace}: one driver a workspace, and {stream.read().strip() or 'another'} holds it; "
                    "wait for it, stop it, or use another workspace"
                )
            stream.truncate(0)
            stream.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
            stream.flush()
            if not self._format_path.exists():
                write_json(self._format_path, {"format": FORMAT})
            yield

    def driving(self) -> bool:
        """Whether a driver, this process or another, holds the workspace now."""
        try:
            stream = (self.workspace / "driver.lock").open("rb")
        except OSError:
            return False
        with stream:
            return not _lock(stream.fileno(), fcntl.LOCK_SH, tries=1)

    @contextmanager
    def claim(self, digest: str, wait_s: float = 60.0) -> Iterator[None]:
        """Hold one trial in the process that trains it, so that an orphan of a killed driver cannot write beside it.

        Raises:
            LedgerError: another process still trains it after `wait_s`.
        """
        path = self.folder(digest) / "trial.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+", encoding="utf-8") as stream:
            if not _lock(stream.fileno(), fcntl.LOCK_EX, tries=1 + math.ceil(wait_s / LOCK_PAUSE_S)):
                stream.seek(0)
                raise LedgerError(
                    f"{path.parent}: one process trains a trial, and {stream.read().strip() or 'another'} still does "
                    f"after {wait_s:.0f} s; stop it and run again"
                )
            stream.truncate(0)
            stream.write(f"pid {os.getpid()} on {socket.gethostname()}\n")
            stream.flush()
            yield

    # --- writing ----------------------------------------------------------------------------------------------------

    def register(self, trial: Trial) -> None:
        """Keep what a digest stands for; a later call with other prose replaces it."""
        path = self.folder(trial.digest) / "trial.json"
        value = {
            **{key: getattr(trial, key) for key in ("digest", "name", "phase", "experiment", "fold", "workers")},
            "resources": asdict(trial.resources),
            "settings": dict(trial.settings),
            "config": trial.config.model_dump(mode="json"),
        }
        value = json.loads(json.dumps(value, default=str))
        if not path.exists() or read_json(path) != value:
            write_json(path, value)

    def append_epoch(self, digest: str, row: EpochRow) -> None:
        """Append and sync one epoch.

        A resumed trial may report an epoch again: the same metrics change nothing; others replace it and what followed.
        """
        path = self.folder(digest) / "epochs.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_torn_line(path)
        known = {old.number: old for old in _read_epochs(path)}
        value = {**asdict(row), "metrics": {name: _finite(number) for name, number in row.metrics.items()}}
        if row.number in known and _same(known[row.number], row):
            return
        line = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
        with path.open("ab") as stream:
            stream.write(line.encode("utf-8"))
            stream.flush()
            os.fsync(stream.fileno())

    def set_state(self, digest: str, state: State, reason: str = "") -> None:
        """Move a trial to `state`. `running` counts an attempt and names this process; the reason is one line."""
        old, now_ms = self._status(digest), time.time_ns() // 1_000_000
        new = replace(old, state=state, reason=" ".join(reason.split()))
        if state == "running":
            new = replace(
                new,
                attempts=old.attempts + 1,
                host=socket.gethostname(),
                pid=os.getpid(),
                started_ms=old.started_ms or now_ms,
                ended_ms=None,
            )
        elif state in ENDED:
            new = replace(new, ended_ms=now_ms)
        write_json(self.folder(digest) / "state.json", asdict(new))

    def put_scores(self, digest: str, key: str, data: Any) -> None:
        """Keep an evaluation of a trial, as JSON, under any `key`."""
        write_json(self._scores_path(digest, key), data, indent=None)

    # --- reading ----------------------------------------------------------------------------------------------------

    def record(self, digest: str) -> TrialRecord:
        """What is known of a trial; a digest that was never seen is `queued`."""
        return self._record(digest, self.driving)

    def records(self) -> tuple[TrialRecord, ...]:
        """All trials of the workspace, in the order of their digests."""
        folder = self.workspace / "trials"
        digests = sorted(path.parent.name for path in folder.glob("*/trial.json")) if folder.is_dir() else []
        alive = self.driving()
        return tuple(self._record(digest, lambda: alive) for digest in digests)

    def done(self, digest: str) -> bool:
        """Whether there is nothing left to train: finished or pruned."""
        return self._status(digest).state in ("finished", "pruned")

    def trial(self, digest: str) -> Mapping[str, Any] | None:
        """What `register` kept of a trial, as plain data; None where it never did."""
        path = self.folder(digest) / "trial.json"
        return cast(Mapping[str, Any], read_json(path)) if path.exists() else None

    def scores(self, digest: str, key: str) -> Any | None:
        """What `put_scores` kept under `key`, or None."""
        path = self._scores_path(digest, key)
        return read_json(path) if path.exists() else None

    def _record(self, digest: str, driving: Any) -> TrialRecord:
        status = self._status(digest)
        state: State = "queued" if status.state == "running" and not driving() else status.state
        rows = _read_epochs(self.folder(digest) / "epochs.jsonl")
        best = best_row(rows)
        return TrialRecord(
            digest=digest,
            state=state,
            epochs=rows,
            best=best.metrics if best else None,
            best_epoch=best.number if best else None,
            seconds=sum(row.seconds for row in rows),
            reason=status.reason,
            attempts=status.attempts,
            host=status.host,
            pid=status.pid,
            started_ms=status.started_ms,
            ended_ms=status.ended_ms,
        )

    def _status(self, digest: str) -> _Status:
        path = self.folder(digest) / "state.json"
        try:
            value = read_json(path) if path.exists() else {}
            status = _Status(**value)
        except TypeError as error:
            raise LedgerError(
                f"{path}: not a trial's state ({error}); remove the file to run the trial again"
            ) from error
        if status.state not in get_args(State):
            raise LedgerError(f"{path}: `state` must be one of {', '.join(get_args(State))}, got {status.state!r}")
        return status

    def _scores_path(self, digest: str, key: str) -> Path:
        name = quote(key, safe="=+,@")
        if len(name) > 150:  # file systems end at 255 bytes
            name = f"{name[:100]}-{blake2b(key.encode(), digest_size=8).hexdigest()}"
        return self.folder(digest) / "scores" / f"{re.sub(r'^[.]', '%2E', name)}.json"


def best_row(rows: tuple[EpochRow, ...]) -> EpochRow | None:
    """The epoch whose weights are in `best/`: the last that was flagged, else the first with the highest `hmean`."""
    flagged = [row for row in rows if row.best]
    if flagged:
        return flagged[-1]
    return max(rows, key=lambda row: (row.metrics.get("hmean", -math.inf), -row.number), default=None)


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
                time.sleep(LOCK_PAUSE_S)
    return False


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end: the trace of a kill in the midst of a write."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        data = stream.read()
        if data and not data.endswith(b"\n"):
            stream.truncate(data.rfind(b"\n") + 1)


def _read_epochs(path: Path) -> tuple[EpochRow, ...]:
    if not path.exists():
        return ()
    lines = path.read_bytes().split(b"\n")[:-1]  # what follows the last line end is torn
    rows: dict[int, EpochRow] = {}
    for place, line in enumerate(lines, start=1):
        try:
            value = json.loads(line)
            metrics = {name: math.nan if number is None else float(number) for name, number in value["metrics"].items()}
            row = EpochRow(**{**value, "metrics": metrics})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise LedgerError(f"{path}:{place}: not an epoch ({error}); remove the line and those after it") from error
        rows = {number: old for number, old in rows.items() if number < row.number}
        rows[row.number] = row
    return tuple(rows[number] for number in sorted(rows))


def _same(old: EpochRow, new: EpochRow) -> bool:
    def values(row: EpochRow) -> dict[str, float | None]:
        return {name: _finite(number) for name, number in row.metrics.items() if not re.search(r"(^|_)seconds$", name)}

    return values(old) == values(new) and old.best == new.best


def _finite(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
