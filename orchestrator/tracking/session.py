"""One connection of the shipper to an MLflow: the journal's fold sent batch by batch, each thing once.

Imports of MLflow stand here and in views.py, nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from orchestrator.tracking.board import Board
from orchestrator.tracking.events import JOURNAL, read_events
from orchestrator.tracking.facts import scrub
from orchestrator.tracking.pages import EXPERIMENT_TAGS
from orchestrator.tracking.runs import Point, Run, Upload
from orchestrator.tracking.store import Target, link_into, read_position, relocate, write_position

log = logging.getLogger(__name__)

BATCH_EVENTS = 500
TAG_LENGTH = 5000  # MLflow 3.17 takes 8000 (utils/validation.py); older servers took 5000
PARAM_LENGTH = 6000
NAME_LENGTH = 250
POINTS_A_CALL = 1000  # MLflow's limits a batch
ITEMS_A_CALL = 100
PROBLEMS_KEPT = 20
REFUSALS = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS"})


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
            self._problem(f"{run.name}: refused by MLflow: {one_line(error)}")

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


def one_line(error: BaseException) -> str:
    """An error for a status: no secrets, no line breaks, at most 300 characters."""
    text = str(scrub(" ".join(str(error).split()))) or type(error).__name__
    # The cause stands at the end of a network error, the place at its beginning.
    return text if len(text) <= 300 else f"{text[:120]} ... {text[-170:]}"
