"""One holder of a thing at a time, with a heartbeat, on anything that can create an object exclusively.

    <place>/000001.json, 000002.json ...     one object an attempt: who, since when, its last sign of life, how it ended

The highest number holds; whoever wants the thing creates the next number, of many exactly one, and only once the holder
has ended or is dead. On the holder's own machine its process tells whether it lives (so a killed one is followed at
once, and one that sleeps is not); from elsewhere only its heartbeat does, hence a dead machine is followed when its
lease has run out. A holder that was followed although it lives (its machine slept, its network was gone) finds a higher
number and must stop: `verify`. flock was turned down: it does not reach over object stores nor over every NFS.

Times are ms since 1970 (`_ms`) or s (`_s`).
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

from orchestrator.errors import LedgerError
from orchestrator.storage.stores import Store

BEAT_S: Final = 10.0
LASTS_S: Final = 60.0  # six heartbeats: a loaded machine or a slow store misses some
# How much later another machine may see a heartbeat: clocks that differ, and NFS's caches (acdirmax is 60 s).
MARGIN_S: Final = 60.0
PAUSE_S: Final = 0.1
BORN_SLACK_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One holder.

    Attributes:
        host, pid: for people.
        place: of its process numbers; equal means that `pid` can be looked up here.
        born_s: when its process began: a number may be given again.
        beat_ms: the last sign of life; the end where it `ended`.
        lasts_s: without a sign of life for so long it counts as dead.
        cpus, gpus: what it occupies.
        ended: it let go.
    """

    host: str
    pid: int
    place: str
    born_s: float
    started_ms: int
    beat_ms: int
    lasts_s: float = LASTS_S
    cpus: float = 1.0
    gpus: float = 0.0
    ended: bool = False

    @property
    def seconds(self) -> float:
        """How long it held, as far as it is known."""
        return max(0.0, (self.beat_ms - self.started_ms) / 1000)

    def lives(self) -> bool:
        """Whether it holds now, as far as can be seen from here."""
        if self.ended:
            return False
        if self.place == _place():
            born_s = _born_s(self.pid)  # the kernel's clock may be set by a little between two looks
            return born_s is not None and abs(born_s - self.born_s) < BORN_SLACK_S
        return self.left_s() > 0

    def left_s(self) -> float:
        """Until it counts as dead elsewhere, if no further sign of life comes."""
        return self.lasts_s + MARGIN_S - (_now_ms() - self.beat_ms) / 1000

    def __str__(self) -> str:
        words = f"pid {self.pid} on {self.host} holds it"
        if self.place == _place():
            return words
        return f"{words} (if that machine is gone, in {max(0.0, self.left_s()):.0f} s no more)"


def attempts(store: Store, place: str) -> tuple[Attempt, ...]:
    """All that ever held `place`, oldest first."""
    return tuple(found for name in _numbered(store, place) if (found := _read(store, f"{place}/{name}")) is not None)


def holder(store: Store, place: str) -> Attempt | None:
    """Who holds `place` now."""
    last = _last(store, place)[1]
    return last if last is not None and last.lives() else None


@contextmanager
def held(
    store: Store,
    place: str,
    rule: str,
    remedy: str,
    *,
    wait_s: float = 0.0,
    cpus: float = 1.0,
    gpus: float = 0.0,
    keep: bool = True,
) -> Iterator[None]:
    """Hold `place` with a heartbeat in a thread.

    Args:
        wait_s: how long to wait for a holder that lives; one elsewhere is waited for until its lease has run out, too.
        keep: the attempts before this one stay, as a record.

    Raises:
        LedgerError: `<place>: <rule>, and <holder>; <remedy>`.
    """
    until = time.monotonic() + wait_s
    while True:
        number, last = _last(store, place)
        if last is not None and last.lives():
            away = last.place != _place() and wait_s > 0
            if time.monotonic() >= until and not away:
                raise LedgerError(f"{store.url}/{place.rpartition('/')[0]}: {rule}, and {last}; {remedy}")
            time.sleep(PAUSE_S)
            continue
        name = f"{place}/{number + 1:06d}.json"
        mine = _begin(cpus, gpus)
        if not store.create(name, _bytes(mine)):
            continue
        if _last(store, place)[0] == number + 1:
            break
        store.remove(name)  # the number was free only because later holders have tidied up
    lease = _Lease(store, place, number + 1, mine)
    try:
        if not keep:
            for old in _numbered(store, place)[:-1]:
                store.remove(f"{place}/{old}")
        yield
    finally:
        lease.end()


def verify(store: Store, place: str) -> None:
    """Refuse to go on where this process held `place` and another has followed; nothing happens where it never did.

    Raises:
        LedgerError: another holds it now.
    """
    lease = _mine.get((store.url, place))
    if lease is None or lease.pid != os.getpid():
        return
    number, last = _last(store, place)
    if number > lease.number:
        raise LedgerError(
            f"{store.url}/{place.rpartition('/')[0]}: this process was silent for so long that another took over "
            f"({last}); it stops here, nothing is lost"
        )


class _Lease:
    """A held place, renewed until it ends."""

    def __init__(self, store: Store, place: str, number: int, mine: Attempt) -> None:
        self.number, self.pid = number, os.getpid()
        self._store, self._place, self._attempt = store, place, mine
        self._over = threading.Event()
        _mine[store.url, place] = self
        self._thread = threading.Thread(target=self._beat, name=f"lease {place}", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT_S):
            with suppress(Exception):  # a full disk, a network that is down: the next heartbeat may get through
                self._renew(ended=False)

    def _renew(self, *, ended: bool) -> None:
        self._attempt = replace(self._attempt, beat_ms=_now_ms(), ended=ended)
        self._store.write(f"{self._place}/{self.number:06d}.json", _bytes(self._attempt))

    def end(self) -> None:
        self._over.set()
        self._thread.join()
        _mine.pop((self._store.url, self._place), None)
        with suppress(OSError, LedgerError):  # it then ends with this process
            self._renew(ended=True)


_mine: dict[tuple[str, str], _Lease] = {}


def let_go() -> None:
    """End all leases of this process, which is about to end itself."""
    for lease in list(_mine.values()):
        if lease.pid == os.getpid():
            lease.end()


def _begin(cpus: float, gpus: float) -> Attempt:
    now_ms, pid = _now_ms(), os.getpid()
    born_s = _born_s(pid) or 0.0
    return Attempt(socket.gethostname(), pid, _place(), born_s, now_ms, now_ms, LASTS_S, cpus, gpus)


def _numbered(store: Store, place: str) -> list[str]:
    return [name for name in store.names(place) if name.endswith(".json") and name[:6].isdigit()]


def _last(store: Store, place: str) -> tuple[int, Attempt | None]:
    for name in reversed(_numbered(store, place)):
        return int(name[:6]), _read(store, f"{place}/{name}")
    return 0, None


def _read(store: Store, name: str) -> Attempt | None:
    """An attempt; None where its object is gone."""
    data = store.read(name)
    try:
        return Attempt(**json.loads(data)) if data else None
    except (ValueError, TypeError) as error:
        raise LedgerError(f"{store.url}/{name}: not a lease ({error}); remove it if nothing runs here") from error


def _bytes(attempt: Attempt) -> bytes:
    return json.dumps(asdict(attempt)).encode()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@cache
def _place() -> str:
    """This machine since its start, and its space of process numbers (a container has its own)."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return "/".join(parts)


def _born_s(pid: int) -> float | None:
    """When a process began, in s of the machine's own clock; None for one that is not there or dead but not reaped."""
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return None
