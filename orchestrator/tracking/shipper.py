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
from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.errors import LedgerError
from orchestrator.tracking.events import JOURNAL
from orchestrator.tracking.facts import scrub
from orchestrator.tracking.session import Session, one_line
from orchestrator.tracking.store import (
    QUICK_HTTP,
    ShipStatus,
    Target,
    quick_http,
    read_position,
    ship_lock,
    status,
    target,
    write_position,
)

log = logging.getLogger(__name__)

POLL_S = 0.5
BACKOFF_S = (1.0, 2.0, 5.0, 15.0, 30.0)
LAST_TRIES = 2  # once the driver has ended, a server that is down is asked this often more


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
            write_position(place, entry | {"error": one_line(error)})
            if stopping:
                tries_left -= 1
                if tries_left <= 0:
                    return
            stopping = stop(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)] if not stopping else 1.0) or stopping
            failures += 1


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
