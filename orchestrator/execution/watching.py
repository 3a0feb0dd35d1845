"""A Ray cluster that dies under its driver: its head was killed, or the machine of it is gone.

Ray 2.60 waits a minute for its head (longer in some calls) and then ends the process without a word; and until then it
takes trials for lost one by one. So the driver looks for itself, by connecting to the head's GCS and to this machine's
raylet, and leaves with a message. All that was reported is in the ledger; the same command goes on from there.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

from orchestrator.errors import ClusterError
from orchestrator.storage import leases

LOOK_S: Final = 1.0
CONNECT_S: Final = 3.0
# A head that keeps its state in Redis may come back; Ray gives up at gcs_rpc_server_reconnect_timeout_s, 60 s.
HEAD_S: Final = 30.0
RAYLET_S: Final = 3.0  # it does not come back
LEAVE_S: Final = 10.0  # for what waits inside Ray and hears no signal
LET_GO_S: Final = 5.0  # a store may be gone, too
CODE: Final = 2


class Gone(BaseException):
    """The cluster is. Not an Exception: Tune goes on after those of a callback."""


def answers() -> bool:
    """Whether the head and this machine's raylet do now."""
    return not _silent()


def stand_by() -> None:
    """Return at once if the cluster answers, or when it does so again.

    Raises:
        Gone: it does not.
    """
    began = time.monotonic()
    while silent := _silent():
        if time.monotonic() - began > _patience(silent):
            raise Gone
        time.sleep(LOOK_S)


@contextmanager
def watched() -> Iterator[None]:
    """Do what needs the cluster.

    Raises:
        ClusterError: the cluster is gone; whatever the block waits for is left. Where it waits inside Ray, the process
            ends with this message and exit code 2.
    """
    watch = _Watch()
    try:
        with watch.heard():
            yield
    except Gone:
        raise ClusterError(_message()) from None
    except Exception as error:
        try:
            stand_by()
        except Gone:
            raise ClusterError(_message()) from error
        raise
    finally:
        watch.over.set()


class _Watch:
    """A thread that looks; it raises `Gone` in the main thread."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self._heard = False
        threading.Thread(target=self._look, name="cluster", daemon=True).start()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Let SIGUSR1 be `Gone`; only a main thread can be told."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def leave(number: int, frame: FrameType | None) -> None:
            if not self.over.is_set():
                raise Gone

        old = signal.signal(signal.SIGUSR1, leave)
        self._heard = True
        try:
            yield
        finally:
            self._heard = False
            self.over.set()  # before the handler is another's
            signal.signal(signal.SIGUSR1, old if old is not None else signal.SIG_DFL)

    def _look(self) -> None:
        since = None
        while not self.over.wait(LOOK_S):
            if not (silent := _silent()):
                since = None
                continue
            since = since or time.monotonic()
            if time.monotonic() - since > _patience(silent):
                break
        else:
            return
        if self._heard:  # unheard it would end the process
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        if not self.over.wait(LEAVE_S):
            _leave()


def _leave() -> None:
    """End this process: what waits inside Ray does not come back."""
    shown = "\x1b[?25h" if sys.stderr.isatty() else ""  # a live table has hidden the cursor
    with suppress(OSError):
        os.write(sys.stderr.fileno(), f"{shown}{_message()}\n".encode())
    letting_go = threading.Thread(target=leases.let_go, daemon=True)
    letting_go.start()
    letting_go.join(LET_GO_S)
    os._exit(CODE)


def _patience(silent: str) -> float:
    return RAYLET_S if silent == "raylet" else HEAD_S


def _silent() -> str:
    """Who does not answer, `raylet` or `head`; empty where both do, or there is no cluster."""
    import ray

    node = ray._private.worker._global_node if ray.is_initialized() else None
    if node is None:  # not connected, or by Ray Client (ray://), which looks for itself
        return ""
    if isinstance(_refusal(socket.AF_UNIX, node.raylet_socket_name), (ConnectionRefusedError, FileNotFoundError)):
        return "raylet"  # one that is only busy lets wait
    host, _, port = node.gcs_address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return "" if _refusal(family, (host.strip("[]"), int(port))) is None else "head"


def _refusal(family: int, address: str | tuple[str, int]) -> OSError | None:
    """Why nothing can be connected to there; None where it can."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.settimeout(CONNECT_S)
            one.connect(address)
    except OSError as error:
        return error
    return None


def _message() -> str:
    address = os.environ.get("RAY_ADDRESS")
    where = f"RAY_ADDRESS={address}: the Ray cluster" if address else "Ray's cluster on this machine"
    remedy = "start it again (`ray start --head`) and " if address else ""
    return (
        f"{where} is gone: its head or this machine's raylet was killed, or its machine is down. Nothing that was "
        f"reported is lost; {remedy}run the same command: trials go on from their last epoch"
    )
