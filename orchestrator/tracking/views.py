"""MLflow's pages over a workspace's store: a server on the loopback that lives as long as the command."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from detector.errors import InputError
from orchestrator.errors import LedgerError
from orchestrator.tracking.events import JOURNAL, read_events
from orchestrator.tracking.pages import RESULTS, TREE, runs_url
from orchestrator.tracking.shipper import ship
from orchestrator.tracking.store import QUICK_HTTP, Target, relocate, target

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
START_S = 90.0  # 6-10 s on 2 idle cores; importing MLflow under a running training takes several times that
STOP_S = 10.0
# The job workers of 3.17 take 1.4 GB and serve features that are not used here.
SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"} | dict(QUICK_HTTP)


class Server:
    """`mlflow server` over the workspace's own store; a context manager that yields once the pages answer.

    Args:
        port: 0 takes any free one.

    Raises:
        LedgerError: nothing was recorded in this workspace yet.
        InputError: the port is taken, or the server does not come up.
    """

    def __init__(self, workspace: Path, port: int = DEFAULT_PORT) -> None:
        # Always the own store: with MLFLOW_TRACKING_URI set, that server has pages of its own.
        self._place: Target = target(workspace, environ={})
        if not (self._place.workspace / JOURNAL).exists():
            raise LedgerError(f"{self._place.workspace / JOURNAL}: nothing was recorded here yet; run a plan first")
        self.port = _port(port)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """All trials and ensembles of the roadmap, the best one first."""
        return runs_url(f"http://{HOST}:{self.port}", _experiment_id(self._place), RESULTS)

    @property
    def tree_url(self) -> str:
        """The roadmap's phases, to be unfolded to experiments and trials."""
        return runs_url(f"http://{HOST}:{self.port}", _experiment_id(self._place), TREE)

    @property
    def command(self) -> list[str]:
        """What is run; `mlflow` of this very Python."""
        return [
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", HOST, "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", self._place.uri),
            *("--artifacts-destination", str(self._place.artifacts)),
        ]

    def __enter__(self) -> Self:
        if not self._place.database.exists():
            _ship_locally(self._place)
        relocate(self._place)
        environ = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"} | SERVER
        with (self._place.folder / "server.log").open("ab") as log_file:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                env=environ,
                start_new_session=True,  # its workers end with it, and signals are ours to pass on
            )
        try:
            self._await_health()
        except BaseException:
            self.close()
            raise
        return self

    def _await_health(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(f"http://{HOST}:{self.port}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise InputError(
            f"port {self.port}: MLflow's server did not come up within {START_S:.0f} s; read "
            f"{self._place.folder / 'server.log'}, or take another --port"
        )

    def wait(self) -> int:
        """Until the server ends by itself; its exit status."""
        assert self._process is not None, "enter the context first"
        return self._process.wait()

    def close(self) -> None:
        """Stop the server and its workers."""
        process, self._process = self._process, None
        if process is None:
            return
        for wish in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, wish)  # its session is its own, so the group holds nothing else
                process.wait(STOP_S)
                return
            except ProcessLookupError:
                process.wait()
                return
            except subprocess.TimeoutExpired:
                continue

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ui(workspace: Path, port: int = DEFAULT_PORT, say: Callable[[str], None] = lambda _: None) -> int:
    """Serve the pages until Ctrl-C or SIGTERM; `say` gets their addresses once they answer. Returns the exit code."""
    try:
        with _ended_by_signals(), Server(workspace, port) as server:
            say(f"all trials   {server.url}")
            say(f"by phase     {server.tree_url}")
            return 0 if server.wait() == 0 else 1
    except KeyboardInterrupt:
        return 0


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt: SIGTERM would leave the server, and a shell's `&` has SIGINT ignored."""
    old = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def download(uri: str, workspace: Path | None = None) -> Path:
    """The local folder of an artifact that MLflow names, e.g. `runs:/ID/checkpoint`.

    Args:
        uri: `runs:/...`, `models:/...` or `mlflow-artifacts:/...`.
        workspace: whose own store is asked; None asks MLFLOW_TRACKING_URI.

    Raises:
        InputError: nobody says which MLflow, or it does not have the artifact.
    """
    if workspace is not None:
        place = target(workspace, environ={})
        relocate(place)
        store: str | None = place.uri
    else:
        store = os.environ.get("MLFLOW_TRACKING_URI")
    if store is None:
        raise InputError(
            f"{uri}: of which MLflow? set MLFLOW_TRACKING_URI, or give --plan PLAN (or a workspace folder)"
        )
    os.environ.update({name: value for name, value in QUICK_HTTP.items() if name not in os.environ})
    import mlflow

    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=store))
    except (mlflow.exceptions.MlflowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{uri}: cannot be had from MLflow ({reason}); check the run's id and path") from error


def _port(wanted: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except (OSError, OverflowError) as error:
            raise InputError(f"--port {wanted}: must be free on {HOST}, but {error}; take another, or 0") from error
        return int(probe.getsockname()[1])


def _ship_locally(place: Target) -> None:
    """Fill the own store, which a roadmap that was sent to a server has not got yet."""
    uri = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        ship(place.workspace)
    finally:
        if uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = uri


def _experiment_id(place: Target) -> str | None:
    """Id of the roadmap's MLflow experiment, or None before the first event arrived there."""
    names = [str(e.payload["roadmap"]) for e, _ in read_events(place.workspace / JOURNAL) if e.kind == "study"]
    if not names or not place.database.exists():
        return None
    database = sqlite3.connect(f"{place.database.as_uri()}?mode=ro", uri=True, timeout=10)
    try:
        row = database.execute("SELECT experiment_id FROM experiments WHERE name = ?", (names[-1],)).fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        database.close()
    return None if row is None else str(row[0])
