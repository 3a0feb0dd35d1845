"""Pieces of work as Ray tasks: one CPU each, and a GPU where the cluster has any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from detector.files import write_bytes
from orchestrator.execution.cluster import Need, ask_for, capacity, connect
from orchestrator.execution.watching import answers, watched
from orchestrator.storage.places import Place, Sent, send

Piece = TypeVar("Piece")
WAIT_S: Final = 1.0  # between looks at what else happened


@dataclass(frozen=True, slots=True)
class Away(Generic[Piece]):
    """Where pieces work in a workspace that each machine mirrors in a folder of its own.

    Attributes:
        place: the workspace.
        reads: files and folders that a piece reads; those inside come to it through the store.
        makes: files inside that it writes; they come back by Ray and stay here alone.
    """

    place: Place
    reads: Callable[[Piece], Iterable[Path]]
    makes: Callable[[Piece], Sequence[Path]]


def run_tasks(
    work: Callable[[Piece, bool], None],
    pieces: Sequence[Piece],
    on_done: Callable[[Piece], None],
    at_most: int | None = None,
    away: Away[Piece] | None = None,
    gpu: bool = True,
) -> None:
    """Call `work(piece, on_gpu)` for every piece on the cluster's workers; `on_done` here, after each.

    No more are given to Ray than the cluster holds: what was given cannot be taken back, for in Ray 2.60 a `ray.cancel`
    that meets the task's own end aborts the process that asked ("Tried to complete task that was not pending").

    Args:
        at_most: so many at once; else as many as the cluster holds.
        gpu: a piece takes a GPU where there is any; else it leaves GPUs alone.
        away: the files of a workspace that pieces read and write; without it they are where all machines see them.

    Raises:
        Exception: the first that a piece raised, as it was raised there, once those under way have ended.
        ClusterError: the cluster is gone.
    """
    connect()
    import ray

    need = Need(1, 1.0, 1.0 if gpu and capacity().gpus >= 1 else 0.0)
    task = ray.remote(num_cpus=need.cpus, num_gpus=need.gpus)(_work)
    makes = _nothing if away is None else away.makes
    left = list(reversed(pieces))
    waiting: dict[Any, Piece] = {}
    ask_for([need] * len(left[:at_most]))
    try:
        with watched():
            while left or waiting:
                at_once = at_most or max(1, capacity().copies(need))
                while left and len(waiting) < at_once:
                    piece = left.pop()
                    waiting[task.remote(work, _sent(piece, away), bool(need.gpus), makes)] = piece
                ready, _ = ray.wait(list(waiting), num_returns=1, timeout=WAIT_S)
                for reference in ready:
                    piece = waiting.pop(reference)
                    _take(piece, ray.get(reference), away)
                    on_done(piece)
    except Exception as error:
        if waiting and answers():
            with watched():
                ray.wait(list(waiting), num_returns=len(waiting))
        if isinstance(error, ray.exceptions.RayTaskError):
            raise (error.cause or error) from None  # the user's fault as it was raised, without Ray's traceback around
        raise
    finally:
        if answers():
            ask_for([])


def _sent(piece: Piece, away: Away[Piece] | None) -> Piece | Sent[Piece]:
    return piece if away is None else send(piece, away.place, away.reads(piece))


def _work(
    work: Callable[[Any, bool], None], piece: Any, on_gpu: bool, makes: Callable[[Any], Sequence[Path]]
) -> tuple[bytes, ...]:
    """Runs in the task; returns the files that the driver's machine does not see."""
    opened = piece.open() if isinstance(piece, Sent) else piece
    work(opened, on_gpu)
    if not (isinstance(piece, Sent) and piece.place.url):
        return ()
    made = [path.read_bytes() for path in makes(opened)]
    for path in makes(opened):
        path.unlink()  # nobody would free it here
    return tuple(made)


def _take(piece: Piece, made: tuple[bytes, ...], away: Away[Piece] | None) -> None:
    if away is not None and made:
        for path, data in zip(away.makes(piece), made, strict=True):
            write_bytes(path, data)


def _nothing(piece: object) -> Sequence[Path]:
    return ()
