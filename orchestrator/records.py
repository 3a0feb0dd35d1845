"""What one trial went through: its epochs, its state, and the file that keeps the epochs.

A file of epochs is appended and synced line by line; a torn last line is the trace of a kill and is cut.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Literal, Protocol, get_args
from urllib.parse import quote

from detector.files import read_json
from orchestrator.errors import LedgerError
from orchestrator.incidents import Incident
from orchestrator.plan.study import Trial

State = Literal["queued", "running", "finished", "pruned", "failed"]
ENDED: Final[frozenset[State]] = frozenset({"finished", "pruned", "failed"})


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
class Status:
    """What state.json holds."""

    state: State = "queued"
    reason: str = ""
    host: str = ""
    pid: int = 0
    started_ms: int | None = None
    ended_ms: int | None = None
    attempts: int = 0


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
        gpu_s, cpu_s: what it occupied so long: wall seconds times devices, over all attempts; of one that was killed,
            until its last heartbeat.
        incidents: what befell it beside its epochs.
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
    gpu_s: float = 0.0
    cpu_s: float = 0.0
    incidents: tuple[Incident, ...] = ()

    @property
    def last(self) -> Mapping[str, float] | None:
        """Metrics of the last epoch, or None before the first."""
        return self.epochs[-1].metrics if self.epochs else None

    @classmethod
    def of(
        cls,
        digest: str,
        status: Status,
        rows: tuple[EpochRow, ...],
        incidents: tuple[Incident, ...],
        *,
        gpu_s: float,
        cpu_s: float,
    ) -> TrialRecord:
        """What a trial's files say, put together."""
        best = best_row(rows)
        return cls(
            digest=digest,
            epochs=rows,
            best=best.metrics if best else None,
            best_epoch=best.number if best else None,
            seconds=sum(row.seconds for row in rows),
            gpu_s=gpu_s,
            cpu_s=cpu_s,
            incidents=incidents,
            **asdict(status),
        )

    @property
    def cost(self) -> tuple[float, Literal["gpu", "cpu"]]:
        """Device seconds: of GPUs, or of CPUs where it used no GPU."""
        return (self.gpu_s, "gpu") if self.gpu_s else (self.cpu_s, "cpu")


class Events(Protocol):
    """Who wants to know what happens: progress on a terminal, the journal of tracking.

    Calls come from the driver's process, one at a time, in this order for a trial: started, epochs, ended. After a
    resume the earlier epochs come again.
    """

    def trial_started(self, trial: Trial) -> None: ...

    def epoch(self, trial: Trial, row: EpochRow) -> None: ...

    def trial_ended(self, trial: Trial, record: TrialRecord) -> None: ...


def best_row(rows: tuple[EpochRow, ...]) -> EpochRow | None:
    """The epoch whose weights are in `best/`: the last that was flagged, else the first with the highest `hmean`."""
    flagged = [row for row in rows if row.best]
    if flagged:
        return flagged[-1]
    return max(rows, key=lambda row: (row.metrics.get("hmean", -math.inf), -row.number), default=None)


def append_epoch(path: Path, row: EpochRow) -> None:
    """Append and sync one epoch; the same epoch again changes nothing, another of its number replaces what followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_torn_line(path)
    known = {old.number: old for old in read_epochs(path)}
    value = {**asdict(row), "metrics": {name: _finite(number) for name, number in row.metrics.items()}}
    if row.number in known and _same(known[row.number], row):
        return
    line = json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"
    with path.open("ab", buffering=0) as stream:
        start = os.fstat(stream.fileno()).st_size
        try:
            data = line.encode("utf-8")
            if stream.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(stream.fileno())
        except OSError:
            os.ftruncate(stream.fileno(), start)
            raise


def _drop_torn_line(path: Path) -> None:
    """Cut a last line without its end: the trace of a kill in the midst of a write."""
    if not path.exists():
        return
    with path.open("r+b") as stream:
        data = stream.read()
        if data and not data.endswith(b"\n"):
            stream.truncate(data.rfind(b"\n") + 1)


def read_epochs(path: Path) -> tuple[EpochRow, ...]:
    """The epochs in a file, in order, without gaps or repeats; none where there is no file."""
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


def read_status(path: Path) -> Status:
    """What a state.json says; LedgerError where it is none."""
    try:
        status = Status(**(read_json(path) if path.exists() else {}))
    except TypeError as error:
        raise LedgerError(f"{path}: not a trial's state ({error}); remove the file to run the trial again") from error
    if status.state not in get_args(State):
        raise LedgerError(f"{path}: `state` must be one of {', '.join(get_args(State))}, got {status.state!r}")
    return status


def scores_file(key: str) -> str:
    """The name of the file for the scores under any key."""
    name = quote(key, safe="=+,@")
    if len(name) > 150:  # file systems end at 255 bytes
        name = f"{name[:100]}-{blake2b(key.encode(), digest_size=8).hexdigest()}"
    return f"{re.sub(r'^[.]', '%2E', name)}.json"
