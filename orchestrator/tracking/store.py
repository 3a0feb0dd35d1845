"""Which MLflow is written to, and how far each has been told: the file side of the shipper.

<workspace>/mlflow/mlflow.db         the store without a server; one writer, the holder of ship.lock
<workspace>/mlflow/artifacts/        its files
<workspace>/mlflow/position.json     tracking URI -> bytes of the journal that it has, or the error that stopped it
<workspace>/mlflow/shipper.log       what the shipper's process had to say
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.files import read_json, write_json
from orchestrator.errors import LedgerError
from orchestrator.tracking.events import JOURNAL, read_events
from orchestrator.tracking.facts import scrub

# A dead server must cost seconds: MLflow's defaults (7 retries, 120 s timeout) hang 246 s a call. Users may set others.
QUICK_HTTP: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True, slots=True)
class Target:
    """An MLflow to write to.

    Attributes:
        uri: as MLflow takes it.
        local: it is the workspace's own sqlite store.
    """

    workspace: Path
    uri: str
    local: bool

    @property
    def shown(self) -> str:
        """The URI without passwords, for people and files."""
        return str(scrub(self.uri))

    @property
    def folder(self) -> Path:
        return self.workspace / "mlflow"

    @property
    def artifacts(self) -> Path:
        return self.folder / "artifacts"

    @property
    def database(self) -> Path:
        return self.folder / "mlflow.db"


@dataclass(frozen=True, slots=True)
class ShipStatus:
    """How much of the journal MLflow shows.

    Attributes:
        uri: the MLflow that was written to, without passwords.
        shipped, total: events it has, events there are.
        error: what stopped the shipper last, in one line; empty if nothing did.
        problems: what MLflow refused or could not be read (a missing file, say) and was passed over.
    """

    uri: str
    shipped: int
    total: int
    error: str = ""
    problems: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        return self.shipped >= self.total

    def __str__(self) -> str:
        if self.complete:
            return f"MLflow {self.uri} shows all {self.total} events" + "".join(f"; {text}" for text in self.problems)
        why = f" ({self.error})" if self.error else ""
        return (
            f"MLflow {self.uri} shows {self.shipped} of {self.total} events{why}; nothing is lost: "
            "`python -m orchestrator sync PLAN` sends the rest"
        )


def target(workspace: Path, environ: Mapping[str, str] | None = None) -> Target:
    """$MLFLOW_TRACKING_URI where it is set, else the workspace's own store."""
    environ = os.environ if environ is None else environ
    workspace = workspace.absolute()
    if uri := environ.get("MLFLOW_TRACKING_URI", ""):
        return Target(workspace, uri, local=False)
    return Target(workspace, f"sqlite:///{workspace / 'mlflow' / 'mlflow.db'}", local=True)


def read_position(place: Target) -> dict[str, Any]:
    """{"offset", "seq", "error", "problems", ...} of a target; zeros for one that was never told anything."""
    path = place.folder / "position.json"
    blank = {"offset": 0, "seq": 0, "error": "", "problems": []}
    return blank | (read_json(path).get(place.shown, {}) if path.exists() else {})


def write_position(place: Target, entry: Mapping[str, Any]) -> None:
    """Replace a target's entry; call it while holding `ship_lock` only."""
    path = place.folder / "position.json"
    known = read_json(path) if path.exists() else {}
    write_json(path, known | {place.shown: dict(entry)})


def status(workspace: Path) -> ShipStatus:
    """How far the present target is; reads files only."""
    place = target(workspace)
    entry = read_position(place)
    total = entry["seq"]
    for event, _ in read_events(place.workspace / JOURNAL, entry["offset"]):
        total = event.seq
    return ShipStatus(place.shown, entry["seq"], total, entry["error"], tuple(entry["problems"]))


@contextmanager
def ship_lock(folder: Path, wait_s: float) -> Iterator[None]:
    """Be the one shipper of a workspace.

    Raises:
        LedgerError: another one still ships after `wait_s`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + wait_s
    with (folder / "ship.lock").open("a") as stream:
        while True:
            try:
                fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LedgerError(
                        f"{folder}: one shipper at a time, and a running plan has one, which sends everything by "
                        "itself; wait for the plan to end"
                    ) from None
                time.sleep(0.1)
        yield


@contextmanager
def quick_http() -> Iterator[None]:
    """`QUICK_HTTP` for the calls inside, where the user has not set it."""
    added = {name: value for name, value in QUICK_HTTP.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def relocate(place: Target) -> None:
    """Point the local store's artifacts to where the workspace lies now, after it was moved; else do nothing.

    MLflow keeps absolute paths; the two columns are those of the pinned 3.17 (`experiments.artifact_location`,
    `runs.artifact_uri`).
    """
    if not place.local or not place.database.exists():
        return
    home = place.artifacts.as_uri()
    with sqlite3.connect(place.database, timeout=10) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"experiments", "runs"} <= tables:
            return
        rows = database.execute("SELECT artifact_location FROM experiments WHERE experiment_id <> 0").fetchall()
        for (old,) in rows:
            if old and old.startswith("file:") and not old.startswith(home) and "/mlflow/artifacts" in old:
                root = old[: old.rindex("/mlflow/artifacts") + len("/mlflow/artifacts")]
                for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
                    database.execute(
                        f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {column} LIKE ? || '%'",
                        (home, len(root) + 1, root),
                    )
    database.close()


def link_into(source: Path, place: Path) -> None:
    """Make `place` the same file or folder without a second copy; a copy where the file system cannot link.

    Safe, since checkpoints and results are replaced whole and never written in place.
    """

    def link(old: str, new: str) -> str:
        Path(new).unlink(missing_ok=True)
        try:
            os.link(old, new)
        except OSError:
            shutil.copy2(old, new)
        return new

    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source, place, copy_function=link)
    else:
        link(str(source), str(place))
