"""One setting of the C library for a process that trains on a CPU."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep what was freed for the next step, instead of taking every large tensor from the system anew.

    Fresh pages are cleared by the kernel and faulted in one by one. It holds for the whole process, so a program of its
    own calls this, never the library. Elsewhere than on glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, BYTES)
        mallopt(M_TRIM_THRESHOLD, BYTES)
