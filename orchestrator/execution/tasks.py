"""Pieces of work as Ray tasks: one CPU each, and a GPU where the cluster has any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from orchestrator.execution.cluster import capacity, connect

Piece = TypeVar("Piece")


def run_tasks(
    work: Callable[[Piece, bool], None],
    pieces: Sequence[Piece],
    on_done: Callable[[Piece], None],
    at_most: int | None = None,
) -> None:
    """Call `work(piece, on_gpu)` for every piece on the cluster's workers; `on_done` here, after each.

    Args:
        at_most: so many at once; else as many as the cluster holds.

    Raises:
        Exception: the first that a piece raised, as it was raised there; pieces that were under way are cancelled.
    """
    connect()
    import ray

    gpus = 1 if capacity().gpus >= 1 else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus)(work)
    left = list(reversed(pieces))
    at_once = min(at_most or len(left), len(left))
    waiting: dict[Any, Piece] = {}
    try:
        while left or waiting:
            while left and len(waiting) < at_once:
                piece = left.pop()
                waiting[task.remote(piece, bool(gpus))] = piece
            ready, _ = ray.wait(list(waiting), num_returns=1)
            for reference in ready:
                ray.get(reference)
                on_done(waiting.pop(reference))
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None  # the user's fault as it was raised, without Ray's traceback around it
    finally:
        for reference in waiting:
            ray.cancel(reference)
