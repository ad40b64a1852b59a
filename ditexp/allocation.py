"""How the C library keeps memory that a CPU's network frees."""

from __future__ import annotations

import contextlib
import ctypes

KEPT_BYTES = 2**30
KEPT_BYTES_BEFORE_2_35 = 2**25  # the most that an older glibc accepts
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def keep_freed_memory() -> None:
    """Have glibc keep up to 1 GiB of freed memory in the process; other C libraries stay as they are.

    The layers of a network allocate and free some megabytes each. By default glibc returns them to the system, and
    every page of the next layer's is made and zeroed again: at 64 rows or more this was a quarter of the processor time
    of `digits`, and a seventh of a DiT-S/2's at 32 rows. What is computed does not depend on it.
    """
    with contextlib.suppress(AttributeError, OSError):
        library = ctypes.CDLL(None)
        library.mallopt(TRIM_THRESHOLD, KEPT_BYTES)
        if not library.mallopt(MMAP_THRESHOLD, KEPT_BYTES):
            library.mallopt(MMAP_THRESHOLD, KEPT_BYTES_BEFORE_2_35)
