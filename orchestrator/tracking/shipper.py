"""The journal, shown by MLflow: repeatable, in a process of its own, and never in the way of a training.

    python -m orchestrator.tracking.shipper WORKSPACE [--follow] [--parent-pid PID]

The position that a target has reached is written after a batch has arrived. A shipper killed in between sends the batch
again: runs are found by their tags, points carry the journal's time stamps and MLflow drops those it has, files are
replaced. So the store is the same as if nothing had happened.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.errors import LedgerError
from orchestrator.tracking.board import Board
from orchestrator.tracking.events import JOURNAL, read_events
from orchestrator.tracking.facts import scrub
from orchestrator.tracking.pages import EXPERIMENT_TAGS
from orchestrator.tracking.process import Shipper
from orchestrator.tracking.runs import Point, Run, Upload
from orchestrator.tracking.store import (
    QUICK_HTTP,
    ShipStatus,
    Target,
    link_into,
    quick_http,
    read_position,
    relocate,
    ship_lock,
    status,
    target,
    write_position,
)

__all__ = ["ShipStatus", "Shipper", "main", "ship"]

log = logging.getLogger(__name__)

POLL_S = 0.5
BATCH_EVENTS = 500
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 30.0)
LAST_TRIES = 2  # once the driver has ended, a server that is down is asked this often more
TAG_LENGTH = 5000  # MLflow 3.17 takes 8000 (utils/validation.py); older servers took 5000
PARAM_LENGTH = 6000
NAME_LENGTH = 250
POINTS_A_CALL = 1000  # MLflow's limits a batch
ITEMS_A_CALL = 100
PROBLEMS_KEPT = 20
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"})


def ship(workspace: Path, *, wait_s: float = 10.0) -> ShipStatus:
    """Send all that MLflow does not have yet; the command `sync`.

    Raises:
        LedgerError: another shipper is at work, or the journal is damaged.
    """
    place = target(workspace)
    if not (place.workspace / JOURNAL).exists():
        raise LedgerError(f"{place.workspace / JOURNAL}: nothing was recorded here yet; run a plan first")
    with ship_lock(place.folder, wait_s), quick_http():
        _follow(place, stop=lambda _: True)
    return status(workspace)


def _follow(place: Target, stop: Callable[[float], bool]) -> None:
    """Ship until `stop(seconds to wait)` says so and nothing is left, or a target that is down was asked enough."""
    session: Session | None = None
    failures, tries_left = 0, LAST_TRIES
    stopping = stop(0.0)
    while True:
        try:
            session = session or Session(place)
            if session.step():
                failures = 0
                stopping = stopping or stop(0.0)
                continue
            if stopping:
                return
            stopping = stop(POLL_S)
        except LedgerError:
            raise
        except Exception as error:  # whatever a network or a database raises: the driver must not notice
            log.warning("MLflow %s: %s", place.shown, scrub(str(error)))
            session = None  # its caches may no longer be true
            entry = read_position(place)
            write_position(place, entry | {"error": _one_line(error)})
            if stopping:
                tries_left -= 1
                if tries_left <= 0:
                    return
            stopping = stop(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)] if not stopping else 1.0) or stopping
            failures += 1


class Session:
    """One connection to a target: the journal's fold up to its position, and what MLflow is known to hold."""

    def __init__(self, place: Target) -> None:
        from mlflow.tracking import MlflowClient

        relocate(place)
        self._place = place
        self._client = MlflowClient(tracking_uri=place.uri)
        self._board = Board()
        self._position = read_position(place)
        self._problems: list[str] = list(self._position["problems"])
        self._experiment_id: str | None = None
        self._runs: dict[str, str | None] = {}  # key -> run id, or None for a run that a person deleted
        self._sent: dict[str, dict[str, Any]] = {}
        self._note = ""
        self._offset = 0
        self._seq = 0

    def step(self) -> bool:
        """Ship the next batch of events; False if there is none."""
        journal = self._place.workspace / JOURNAL
        if self._offset == 0 and self._position["offset"]:
            self._catch_up(journal)
        batch = list(islice(read_events(journal, self._offset), BATCH_EVENTS))
        if not batch:
            if self._position["error"]:
                self._reached()  # the target answers again
            return False
        for event, _ in batch:
            self._board.apply(event)
        if self._board.roadmap:
            self._ensure_experiment()
            for run, points, uploads in self._board.take():
                self._push(run, points, uploads)
        self._offset, self._seq = batch[-1][1], batch[-1][0].seq
        if self._board.roadmap:
            self._reached()
        return True

    def _catch_up(self, journal: Path) -> None:
        """Fold what the target has already; a store that was emptied meanwhile is told everything again."""
        for event, end in read_events(journal):
            if end > self._position["offset"]:
                break
            self._board.apply(event)
            self._offset, self._seq = end, event.seq
        same = self._position.get("journal", "") == self._board.journal
        if same and self._client.get_experiment_by_name(self._board.roadmap) is not None:
            self._board.take()
        else:
            self._board, self._offset, self._seq = Board(), 0, 0
            self._position["offset"] = 0

    def _reached(self) -> None:
        problems = self._problems[-PROBLEMS_KEPT:]
        self._position = {
            "journal": self._board.journal,
            "offset": self._offset,
            "seq": self._seq,
            "error": "",
            "problems": problems,
        }
        write_position(self._place, self._position)

    # --- experiment and runs ----------------------------------------------------------------------------------------

    def _ensure_experiment(self) -> None:
        if self._experiment_id is None:
            name = self._board.roadmap
            found = self._client.get_experiment_by_name(name)
            if found is not None and found.lifecycle_stage == "deleted":
                raise RuntimeError(f"experiment {name} was deleted in MLflow; restore it there, or rename the roadmap")
            if found is None:
                location = self._place.artifacts.as_uri() if self._place.local else None
                self._experiment_id = str(self._client.create_experiment(name, artifact_location=location))
            else:
                self._experiment_id = str(found.experiment_id)
            self._find_runs()
        if self._note != self._board.note:
            self._client.set_experiment_tag(self._experiment_id, "mlflow.note.content", self._board.note[:TAG_LENGTH])
            for key, value in EXPERIMENT_TAGS.items():
                self._client.set_experiment_tag(self._experiment_id, key, value)
            self._note = self._board.note

    def _find_runs(self) -> None:
        """All runs of this journal, by their key: one search instead of one a run."""
        from mlflow.entities import ViewType

        token = None
        while True:
            page = self._client.search_runs(
                [self._experiment_id],
                f"tags.`orchestrator.journal` = '{self._board.journal}'",
                run_view_type=ViewType.ALL,
                max_results=500,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            for run in page:
                alive = run.info.lifecycle_stage == "active"
                self._runs.setdefault(run.data.tags["orchestrator.key"], run.info.run_id if alive else None)
            token = page.token
            if not token:
                return

    def _run_id(self, run: Run) -> str | None:
        if run.key not in self._runs:
            tags = {"orchestrator.key": run.key, "orchestrator.journal": self._board.journal}
            if run.parent and (parent_id := self._runs.get(run.parent)):
                tags["mlflow.parentRunId"] = parent_id
            made = self._client.create_run(self._experiment_id, start_time=run.start_ms, tags=tags, run_name=run.name)
            self._runs[run.key] = made.info.run_id
        return self._runs[run.key]

    # --- one run ----------------------------------------------------------------------------------------------------

    def _push(self, run: Run, points: Sequence[Point], uploads: Sequence[Upload]) -> None:
        from mlflow.entities import Metric, Param, RunTag

        run_id = self._run_id(run)
        if run_id is None:
            return
        sent = self._sent.setdefault(run.key, {"tags": {}, "params": {}, "dataset": None, "state": None})
        tags = {k: v[:TAG_LENGTH] for k, v in run.tags.items() if sent["tags"].get(k) != v[:TAG_LENGTH]}
        for part in _chunks(list(tags.items()), ITEMS_A_CALL):
            with self._refusable(run):
                self._client.log_batch(run_id, tags=[RunTag(key, value) for key, value in part])
        params = {k[:NAME_LENGTH]: v[:PARAM_LENGTH] for k, v in run.params.items() if sent["params"].get(k) != v}
        for part in _chunks(list(params.items()), ITEMS_A_CALL):
            with self._refusable(run):
                self._client.log_batch(run_id, params=[Param(key, value) for key, value in part])
        for part in _chunks(list(dict.fromkeys(points)), POINTS_A_CALL):
            with self._refusable(run):
                self._client.log_batch(run_id, metrics=[Metric(p.name, p.value, p.time_ms, p.step) for p in part])
        if run.dataset is not None and run.dataset != sent["dataset"]:
            self._log_dataset(run, run_id)
        for upload in {upload.path: upload for upload in uploads}.values():
            with self._refusable(run):
                self._upload(run_id, upload)
        if (state := (run.status, run.end_ms)) != sent["state"]:
            if run.status == "RUNNING":
                self._client.update_run(run_id, status="RUNNING")
            else:
                self._client.set_terminated(run_id, status=run.status, end_time=run.end_ms)
            sent["state"] = state
        sent["tags"] |= tags
        sent["params"] |= run.params
        sent["dataset"] = run.dataset

    @contextmanager
    def _refusable(self, run: Run) -> Iterator[None]:
        """What MLflow will never take must not block what follows: noted, and passed over."""
        from mlflow.exceptions import MlflowException

        try:
            yield
        except FileNotFoundError as error:
            self._problem(f"{run.name}: {error.filename}: not there (any more); not shown")
        except MlflowException as error:
            if error.error_code not in REFUSALS:
                raise
            self._problem(f"{run.name}: refused by MLflow: {_one_line(error)}")

    def _problem(self, text: str) -> None:
        log.warning(text)
        if text not in self._problems:
            self._problems.append(text)

    def _log_dataset(self, run: Run, run_id: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        assert run.dataset is not None
        name, digest = run.dataset
        data = Dataset(name, digest[:36], "local", "{}")
        with self._refusable(run):
            self._client.log_inputs(run_id, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])

    def _upload(self, run_id: str, upload: Upload) -> None:
        folder, _, name = upload.path.rpartition("/")
        if upload.text is not None:
            self._client.log_text(run_id, upload.text, upload.path)
            return
        source = self._place.workspace / str(upload.source)
        if not source.exists():
            raise FileNotFoundError(2, "not there", str(source))
        if self._place.local:
            home = Path(unquote(urlsplit(self._client.get_run(run_id).info.artifact_uri).path))
            link_into(source, home / upload.path)
        elif source.is_dir():
            self._client.log_artifacts(run_id, str(source), upload.path)
        elif source.name == name:
            self._client.log_artifact(run_id, str(source), folder or None)
        else:
            raise FileNotFoundError(2, f"must be named {name}", str(source))


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _one_line(error: BaseException) -> str:
    text = str(scrub(" ".join(str(error).split()))) or type(error).__name__
    # The cause stands at the end of a network error, the place at its beginning.
    return text if len(text) <= 300 else f"{text[:120]} ... {text[-170:]}"


def _waiter(parent_pid: int | None) -> Callable[[float], bool]:
    """`stop(seconds)`: waits that long or until standard input closes; True once it did or the parent is gone."""
    ended = False

    def stop(seconds: float) -> bool:
        nonlocal ended
        if not ended:
            ready, _, _ = select.select([sys.stdin], [], [], seconds)
            ended = bool(ready and not os.read(sys.stdin.fileno(), 4096))
            ended = ended or (parent_pid is not None and os.getppid() != parent_pid)
        elif seconds:
            time.sleep(seconds)
        return ended

    return stop


def main(arguments: Sequence[str] | None = None) -> int:
    """The shipper's process; 0 if MLflow has everything, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="orchestrator.tracking.shipper", description="Send a journal to MLflow.")
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--follow", action="store_true", help="go on until standard input closes")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process is gone, too")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    os.environ.update({name: value for name, value in QUICK_HTTP.items() if name not in os.environ})
    place = target(options.workspace)
    try:
        if options.follow:
            with ship_lock(place.folder, wait_s=3600.0):
                _follow(place, _waiter(options.parent_pid))
        else:
            ship(options.workspace)
    except LedgerError:
        log.exception("the shipper ends")
        return 1
    return 0 if status(options.workspace).complete else 1


if __name__ == "__main__":
    sys.exit(main())
