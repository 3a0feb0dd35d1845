"""Keeping the heap between steps of a training on a CPU."""

from __future__ import annotations

import ctypes
import sys

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
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, NEVER)
