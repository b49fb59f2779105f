"""What the C library does with freed memory: kept for the next tile, as in a process that Dask did not start."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

DASKS_TRIM = "65536"
"""What Dask's nannies set MALLOC_TRIM_THRESHOLD_ to, unless their configuration says otherwise."""
MMAP_BYTES = 32 * 2**20
"""Blocks up to this size come from memory that is kept; to this size glibc itself learns to, on 64 bits."""
TRIM_BYTES = 2 * MMAP_BYTES

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


@cache
def keep_freed_memory() -> bool:
    """Undo Dask's setting in this process; whether there was something to undo.

    glibc learns from the first large blocks that are freed to keep such blocks; a threshold in the environment forbids
    it to learn. Each array of a tile is then fresh memory, which the kernel fills with zeros page by page. A threshold
    that somebody chose is left alone.
    """
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") != DASKS_TRIM or not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, which knows no thresholds
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES))
