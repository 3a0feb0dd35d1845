"""Keeping the heap between steps of a training on a CPU, and giving it back after the last one."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable

# <malloc.h> of glibc: parameters of mallopt(3).
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
NEVER = 2**31 - 1
LARGEST_MMAP_THRESHOLD = 1 << 30


def keep_heap() -> None:
    """Make glibc reuse large blocks instead of returning them to the kernel.

    Every activation is above the default threshold of mmap, so each step maps its memory anew and pays a page fault
    for every 4 KiB: a quarter of the processor time of a step (docs/findings.md). No-op where there is no glibc.
    """
    mallopt = _of_glibc("mallopt")
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER)


def trim_heap() -> None:
    """Return to the kernel what `keep_heap` kept and nothing uses.

    A process that trains one trial after another would else hold the holes of all of them: 3.4 GB after the first of
    three trainings at 1280 and 960 px, 5.8 GB in the third (docs/findings.md).
    """
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(ctypes.c_size_t(0))


def _of_glibc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform.startswith("linux") else None
