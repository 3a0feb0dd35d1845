"""What has happened to each trial, on storage that every node sees: the truth that a run resumes from.

    <workspace>/ledger.json               the format's number
    <workspace>/driver.lock               held (flock) by the one driver of this workspace
    <workspace>/trials/<digest>/          trial.json  epochs.jsonl  state.json  scores/  best/  last/

Epochs are appended and synced line by line, everything else is replaced whole; so a kill at any instant costs at most
the line that was being written. Times are ms since 1970 (`_ms`) or s (`_s`, `seconds`); epochs count from 1.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, cast, get_args
from urllib.parse import quote

from detector.files import read_json, write_json
from orchestrator.errors import LedgerError
from orchestrator.locks import held, is_held
from orchestrator.plan.study import Trial
from orchestrator.records import ENDED, EpochRow, State, TrialRecord, append_epoch, best_row, read_epochs

FORMAT: Final = 1


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

    @property
    def _driver_path(self) -> Path:
        return self.workspace / "driver.lock"

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
        try:
            self.workspace.mkdir(parents=True, exist_ok=True)
            self._driver_path.touch()
        except OSError as error:
            raise LedgerError(
                f"{self.workspace}: the workspace must be a folder that can be written, but {error.strerror}; "
                "choose another with `workspace:` or ORCHESTRATOR_WORKSPACE"
            ) from error
        with held(self._driver_path, "one driver a workspace", "wait for it, stop it, or use another workspace"):
            if not self._format_path.exists():
                write_json(self._format_path, {"format": FORMAT})
            yield

    def driving(self) -> bool:
        """Whether a driver, this process or another, holds the workspace now."""
        return is_held(self._driver_path)

    @contextmanager
    def claim(self, digest: str, wait_s: float = 60.0) -> Iterator[None]:
        """Hold one trial in the process that trains it, so that an orphan of a killed driver cannot write beside it.

        Raises:
            LedgerError: another process still trains it after `wait_s`.
        """
        path = self.folder(digest) / "trial.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        with held(path, "one process trains a trial", "stop it and run again", wait_s):
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
        append_epoch(self.folder(digest) / "epochs.jsonl", row)

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
        rows = read_epochs(self.folder(digest) / "epochs.jsonl")
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
