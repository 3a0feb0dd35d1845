"""What has happened to each trial, on storage that every node sees: the truth that a run resumes from.

    <workspace>/ledger.json               the format's number
    <workspace>/driver/                   the lease of the one driver of this workspace
    <workspace>/trials/<digest>/          trial.json  epochs.jsonl  state.json  scores/  best/  last.safetensors
                        .../kept/, soup/  the best epochs while they are trained, and what became of them
                        .../leases/       one lease an attempt: who trained it, from when to when, on how many devices
    <workspace>/sweeps/<identity>.json    the trials that a sweep proposed while it ran, and what each of them saw

Epochs are appended and synced line by line, everything else is replaced whole; so a kill at any instant costs at most
the line that was being written. Times are ms since 1970 (`_ms`) or s (`_s`, `seconds`); epochs count from 1.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote

from detector.files import read_json, write_json
from detector.training.kept import KEPT, SOUP, forget_kept
from orchestrator import incidents
from orchestrator.errors import LedgerError
from orchestrator.plan.study import Trial
from orchestrator.records import (
    ENDED,
    EpochRow,
    State,
    Status,
    TrialRecord,
    append_epoch,
    read_epochs,
    read_status,
    scores_file,
)
from orchestrator.storage.leases import BEAT_S, attempts, held, holder, verify
from orchestrator.storage.mirror import TRAINED, following
from orchestrator.storage.places import Place
from orchestrator.storage.stores import FolderStore
from orchestrator.storage.weights import weights_in

FORMAT: Final = 1
DRIVER: Final = "driver"
CLAIM_S: Final = 60.0  # how long a trial waits for an orphan of a killed driver to end


@dataclass(frozen=True, slots=True)
class Ledger(Place):
    """The trials of one workspace. A plain value: it may be sent to any process, on any machine that reaches it."""

    @classmethod
    def open(cls, workspace: Path) -> Ledger:
        """The ledger of `workspace`, which need not exist yet; nothing is written.

        A mirror of a store is brought up to date first, but for the weights, which come when they are needed.

        Raises:
            LedgerError: another version of this software wrote it, or its store does not answer.
        """
        ledger = cls.of(workspace)
        if ledger.mirror is not None:
            ledger.mirror.bring()
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

    def bring(self, digest: str, name: str = "", *, ended: bool = False) -> None:
        """Bring what other machines did to a trial, but for its weights; or to one file of it.

        Args:
            ended: also where it has ended, as far as is known here.
        """
        if self.mirror is not None and (ended or self._status(digest).state not in ENDED):
            self.mirror.bring(f"trials/{digest}/{name}")

    def fetch(self, digest: str) -> Path:
        """The folder of a trial, with all that other machines did to it, its weights included."""
        self.bring_folder(f"trials/{digest}", weights=True)
        return self.folder(digest)

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
        with ExitStack() as stack:
            try:
                self.workspace.mkdir(parents=True, exist_ok=True)
                remedy = "wait for it, stop it, or use another workspace"
                stack.enter_context(held(self.store, DRIVER, "one driver a workspace", remedy, keep=False))
                if self.mirror is not None:
                    self.mirror.bring()
                    stack.enter_context(following(self.keep, BEAT_S))
                if not self._format_path.exists():
                    write_json(self._format_path, {"format": FORMAT})
            except OSError as error:
                raise LedgerError(
                    f"{self.workspace}: the workspace must be a folder that can be written, but {error.strerror}; "
                    "choose another with `workspace:` or ORCHESTRATOR_WORKSPACE"
                ) from error
            yield

    def driving(self) -> bool:
        """Whether a driver, this process or another, holds the workspace now."""
        return holder(self.store, DRIVER) is not None

    @contextmanager
    def claim(self, digest: str, cpus: float = 1.0, gpus: float = 0.0, wait_s: float = CLAIM_S) -> Iterator[None]:
        """Hold one trial in the process that trains it, so that no other writes beside it; that time is its cost.

        A holder that was killed is followed at once, one on a machine that is gone when its lease has run out.

        Args:
            cpus, gpus: what the trial occupies, all its workers together.

        Raises:
            LedgerError: another process still trains it after `wait_s`.
        """
        rule, remedy = "one process trains a trial", "stop it and run again"
        lease = held(self.store, lease_of(digest), rule, remedy, wait_s=wait_s, cpus=cpus, gpus=gpus)
        with lease, self.mirror.training(digest) if self.mirror else nullcontext():
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
        self.keep(path)

    def append_epoch(self, digest: str, row: EpochRow) -> None:
        """Append and sync one epoch.

        A resumed trial may report an epoch again: the same metrics change nothing; others replace it and what followed.

        Raises:
            LedgerError: this process claimed the trial, slept, and another has taken it over.
        """
        verify(self.store, lease_of(digest))
        folder = self.folder(digest)
        # The state of the epoch before is in the store, too: a machine that dies now costs one epoch and not more.
        # It comes first, since it names the kept epochs that must stay, and a new one may take the place of another.
        self.keep(folder / "last.safetensors", *([folder / "best"] if row.best else []), folder / KEPT)
        append_epoch(folder / "epochs.jsonl", row)
        self.keep(folder / "epochs.jsonl")

    def set_state(self, digest: str, state: State, reason: str = "") -> None:
        """Move a trial to `state`. `running` counts an attempt and names this process; the reason is one line."""
        self.bring(digest, "state.json")
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
        folder = self.folder(digest)
        write_json(folder / "state.json", asdict(new))
        if self.mirror is not None:  # with what was told of it before (incidents, a traceback), but not its epochs
            told = [path for path in folder.iterdir() if path.is_file() and path.name not in TRAINED]
            self.keep(*told, folder / SOUP, folder / "state.json")
        if state in ("finished", "pruned"):  # the soup is made, or never will be
            forget_kept(folder)
            for path in self.stored(f"trials/{digest}/{KEPT}/"):
                self.remove(path)

    def put_scores(self, digest: str, key: str, data: Any) -> None:
        """Keep an evaluation of a trial, as JSON, under any `key`."""
        path = self._scores_path(digest, key)
        write_json(path, data, indent=None)
        self.keep(path)

    def put_proposals(self, sweep: str, data: Any) -> None:
        """Keep what a sweep has proposed so far, as JSON."""
        write_json(self._sweep_path(sweep), data, indent=None)
        self.keep(self._sweep_path(sweep))

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

    def score_names(self, digest: str) -> tuple[str, ...]:
        """The keys of `put_scores` (a very long one cut, as its file is named)."""
        folder = self.folder(digest) / "scores"
        return tuple(sorted(unquote(path.stem) for path in folder.glob("*.json"))) if folder.is_dir() else ()

    def best(self, digest: str, *, soup: bool = False) -> Path:
        """The folder of a trial's best checkpoint, or of its soup; its weights are here, unless `gc` has freed them."""
        name = SOUP if soup else "best"
        self.bring_folder(f"trials/{digest}/{name}", weights=True)
        return self.folder(digest) / name

    def checkpoint(self, digest: str, *, soup: bool = False) -> Path:
        """The same, and LedgerError where they were freed."""
        return weights_in(self.best(digest, soup=soup))

    def model(self, digest: str, *, soup: bool = False) -> str | None:
        """The digest of a trial's best checkpoint, or of its soup; None where there is none."""
        meta = self.folder(digest) / (SOUP if soup else "best") / "checkpoint.json"
        return str(read_json(meta)["digest"]) if meta.is_file() else None

    def maps(self, digest: str) -> tuple[Path, ...]:
        """Where the probability maps of a trial's best checkpoint and of its soup lie, as far as they are there."""
        models = {model for soup in (False, True) if (model := self.model(digest, soup=soup)) is not None}
        return tuple(sorted(path for model in models for path in (self.workspace / "maps").glob(f"{model[:16]}-*")))

    def proposals(self, sweep: str) -> Any | None:
        """What `put_proposals` kept of a sweep, or None."""
        path = self._sweep_path(sweep)
        return read_json(path) if path.exists() else None

    def _sweep_path(self, sweep: str) -> Path:
        return self.workspace / "sweeps" / f"{sweep}.json"

    def _record(self, digest: str, driving: Any) -> TrialRecord:
        status, spent = self._status(digest), attempts(FolderStore(self.workspace), lease_of(digest))
        if status.state == "running" and not driving():
            status = replace(status, state="queued")
        return TrialRecord.of(
            digest,
            status,
            read_epochs(self.folder(digest) / "epochs.jsonl"),
            incidents.read(self.folder(digest)),
            gpu_s=sum(attempt.seconds * attempt.gpus for attempt in spent),
            cpu_s=sum(attempt.seconds * attempt.cpus for attempt in spent),
        )

    def _status(self, digest: str) -> Status:
        return read_status(self.folder(digest) / "state.json")

    def _scores_path(self, digest: str, key: str) -> Path:
        return self.folder(digest) / "scores" / scores_file(key)


def lease_of(digest: str) -> str:
    """Where the leases of a trial are."""
    return f"trials/{digest}/leases"
