"""The shipper's process, seen from the driver: started, drained, never waited for while a plan runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from orchestrator.tracking.store import QUICK_HTTP, ShipStatus, status, target


class Shipper:
    """The shipper's process beside a driver; a context manager.

    It lives in a session of its own, so Ctrl-C does not reach it, and it drains and ends when its standard input
    closes, which the kernel does even where the driver was killed.
    """

    def __init__(self, workspace: Path) -> None:
        self._workspace = workspace.absolute()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns at once."""
        folder = target(self._workspace).folder
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "orchestrator.tracking.shipper", str(self._workspace), "--follow"]
        environ = {**QUICK_HTTP, **os.environ}
        # A job on a cluster is unpacked, not installed: the child must find the package where this one was found.
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(_package_root()), os.environ.get("PYTHONPATH", "")]))
        with (folder / "shipper.log").open("ab") as log_file:
            self._process = subprocess.Popen(
                [*command, "--parent-pid", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=log_file,
                stderr=log_file,
                env=environ,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def close(self, timeout: float = 60.0) -> ShipStatus:
        """Let it send the rest, at most `timeout` seconds long; says how far it came. A second call only looks."""
        process, self._process = self._process, None
        if process is not None:
            if process.stdin is not None:
                process.stdin.close()
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        return status(self._workspace)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _package_root() -> Path:
    return Path(__file__).resolve().parents[2]
