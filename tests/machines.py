"""Machines of a Ray cluster, on this one: each is a `ray start` with an environment and, where mounting is permitted, a
view of the disk of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import psutil

RAY = Path(sys.executable).parent / "ray"
ENOUGH_S = 600.0
# Two raylets share this machine's ports, and nobody looks at a dashboard.
WORDS = (
    *("--block", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0"),
    *("--node-ip-address=127.0.0.1", "--object-store-memory=100000000", "--dashboard-agent-listen-port=0"),
)
OPEN = {"RAY_AUTH_MODE": "disabled"}  # whatever token this machine's user has
# A lost machine is noticed after 3 s instead of 30.
QUICK = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "3000",
}


class Machine:
    """One node and all its processes.

    Args:
        environment: besides what is there, without Ray's and MLflow's own; None takes a variable away.
        hides: folders that are empty on this machine.
    """

    def __init__(
        self, words: Sequence[str], environment: Mapping[str, str | None], log: Path, hides: Sequence[Path] = ()
    ) -> None:
        known = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MLFLOW_"))}
        taken = {key: value for key, value in (known | OPEN | QUICK | environment).items() if value is not None}
        command = [str(RAY), "start", *words, *WORDS]
        if hides and can_hide():
            mounts = "".join(f"mount -t tmpfs tmpfs '{folder}' && " for folder in hides)
            command = [
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                f'{mounts}exec "$@"',
                "sh",
                *command,
            ]
        self._log, self._rest = log, list[psutil.Process]()
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, env=taken, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_for(self, text: str) -> None:
        """Until `ray start` has said so."""
        until = time.monotonic() + ENOUGH_S
        while text not in self._log.read_text():
            assert self._process.poll() is None and time.monotonic() < until, self._log.read_text()[-3000:]
            time.sleep(0.2)

    def kill_services(self) -> None:
        """Kill the raylet and the GCS; the processes of tasks are left to themselves."""
        self._rest = psutil.Process(self._process.pid).children(recursive=True)
        for one in self._rest:
            if one.name() in ("raylet", "gcs_server"):
                one.kill()

    def kill(self, *others: int) -> None:
        """Kill all its processes with -9, at once, and `others` with all below them."""
        kill_all(self._process.pid, *others, *(one.pid for one in self._rest if one.is_running()))
        self._process.wait()


def kill_all(*roots: int) -> None:
    """Kill processes and all below them with -9, all of them stopped first, so that none sees another die."""
    family = list[psutil.Process]()
    for pid in roots:
        with suppress(psutil.NoSuchProcess):
            one = psutil.Process(pid)
            family += [one, *one.children(recursive=True)]
    for act in ("suspend", "kill"):
        for one in family:
            with suppress(psutil.NoSuchProcess):
                getattr(one, act)()
    psutil.wait_procs(family, timeout=30)


@contextmanager
def ray_folder() -> Iterator[Path]:
    """A short path: those of sockets end at 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def head_words(port: int, folder: Path, cpus: int) -> list[str]:
    """What makes a head of `ray start`."""
    return ["--head", f"--port={port}", f"--num-cpus={cpus}", "--include-dashboard=false", f"--temp-dir={folder}"]


@cache
def can_hide() -> bool:
    """Whether folders can be hidden from a machine here."""
    asked = ["unshare", "--mount", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(asked, capture_output=True, check=False).returncode == 0
