"""What a failure of a trial means: a fault of the training, a loss that may not come again, or too little memory.

    fault       the same again would fail the same way: NaN loss, wrong input, a bug
    full        the disk is: everything stops, and the same command goes on once there is room
    transient   a process or connection that is gone, a GPU or a network disk that hiccuped: started again from the last
                epoch, a few times
    held        another process has the trial (this one was cut off for long, or that one was): it is left to that one
    memory      ranks that go on with half a batch: started again, once (`detector.training.micro`)

Classes of Ray and torch are told by their module and name: the driver knows both kinds of error and loads no torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from detector.errors import InputError, StartAgain, TrainingFailed
from orchestrator.errors import LedgerError
from orchestrator.storage.disk import REASON, is_full

Kind = Literal["fault", "full", "held", "transient", "memory"]

ERRNOS: Final = (
    *(errno.ESTALE, errno.EIO, errno.EREMOTEIO),  # network disks
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ENOTCONN, errno.ESHUTDOWN),
    *(errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
)
# Loader processes and our own messages hand an OSError on as text; the last is `storage.s3`'s.
DISK_SIGNS: Final = (*(os.strerror(code) for code in ERRNOS), "the store must answer")
HELD_SIGNS: Final = ("one process trains a trial", "another took over")  # of `ledger.claim` and of its lease
PEER_SIGNS: Final = ("closed by peer", "reset by peer", "NCCL communicator was aborted")
LOST_SIGNS: Final = ("DataLoader worker", "NCCL error", "NCCL Error", "Watchdog caught collective operation timeout")
GPU_SIGNS: Final = ("CUDA error", "CUDNN_STATUS_EXECUTION_FAILED", "CUDNN_STATUS_INTERNAL_ERROR", "CUBLAS_STATUS_EXECU")
# Of these the same again makes the same: an index out of range in a kernel, a GPU that this torch was not built for.
GPU_FAULTS: Final = (
    *("device-side assert", "no kernel image", "invalid device ordinal", "invalid device function"),
    *("invalid argument", "invalid configuration", "out of memory", "no CUDA-capable device"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means, and its reason in one line."""

    kind: Kind
    reason: str


def verdict(error: BaseException) -> Verdict:
    """What one exception means."""
    if isinstance(error, StartAgain):
        return Verdict("memory", _line(error))
    if is_full(error):
        return Verdict("full", REASON)
    if isinstance(error, LedgerError) and any(sign in str(error) for sign in HELD_SIGNS):
        return Verdict("held", _line(error))
    for cause in _causes(error):
        if reason := _transient(cause):
            return Verdict("transient", reason)
    known = isinstance(error, (InputError, TrainingFailed))
    return Verdict("fault", _line(error) if known else f"{type(error).__name__}: {_line(error)}")


def of_ranks(failures: Mapping[int, BaseException]) -> tuple[int, BaseException]:
    """The rank and the exception that the others follow from.

    A rank that fails ends its peers: they find their connections broken. So what was meant comes first, then a process
    that died, then anything else, and a peer's complaint last.
    """

    def order(rank: int) -> tuple[int, int]:
        error = failures[rank]
        if isinstance(error, StartAgain):
            return 0, rank
        fault = verdict(error).kind in ("fault", "full")
        if fault and isinstance(error, (InputError, TrainingFailed)):
            return 1, rank
        if _by_ray(error):
            return 2, rank
        return (3 if fault else 5 if any(sign in str(error) for sign in PEER_SIGNS) else 4), rank

    rank = min(failures, key=order)
    return rank, failures[rank]


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and what it was raised from."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _transient(error: BaseException) -> str:
    """Why it may not come again; empty where it would."""
    text, name = str(error), type(error).__name__
    if _by_ray(error):
        return f"its process was lost ({name}: {_line(error)})"
    if isinstance(error, OSError) and (error.errno in ERRNOS or isinstance(error, (ConnectionError, TimeoutError))):
        return f"{name}: {_line(error)}"
    if isinstance(error, (OSError, InputError)) and any(sign in text for sign in DISK_SIGNS):
        return f"{name}: {_line(error)}"
    if not isinstance(error, RuntimeError):
        return ""
    if any(sign in text for sign in GPU_SIGNS):
        return "" if any(sign in text for sign in GPU_FAULTS) else f"{name}: {_line(error)}"
    distributed = name in ("DistBackendError", "DistNetworkError", "DistStoreError")
    if distributed or any(sign in text for sign in (*PEER_SIGNS, *LOST_SIGNS, *DISK_SIGNS)):
        return f"{name}: {_line(error)}"
    return ""


def _by_ray(error: BaseException) -> bool:
    """An exception of Ray's own (a lost actor, node or object), not one of ours that Ray wrapped."""
    wrapped = type(error).__name__ in ("RayTaskError", "UserExceptionWithTraceback") or hasattr(error, "_base_exc")
    return type(error).__module__.split(".")[0] == "ray" and not wrapped


def _line(error: BaseException) -> str:
    """The first line of its message."""
    return (str(error).strip().splitlines() or [""])[0]
