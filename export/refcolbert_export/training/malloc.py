"""A setting of glibc for processes that train on a CPU."""

import ctypes
import sys

__all__ = ["keep_freed_memory"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step, instead of returning it to the system.

    The kernel clears fresh pages and maps them one by one, which slows every step down. The setting holds for the whole
    process, so programs call this and the library does not. Without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, BYTES)
        mallopt(M_TRIM_THRESHOLD, BYTES)
