"""Amounts in units that are easy to read."""

from __future__ import annotations

import time
from itertools import pairwise

TIMES = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))  # units and their seconds


def amount(size: float) -> str:
    """A number of bytes in the largest fitting unit, in powers of 1,000: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def duration(seconds: float) -> str:
    """A time in its two largest units: 45 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    whole = round(seconds)
    for (name, size), (smaller, part) in pairwise(TIMES):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def date(seconds: float) -> str:
    """A time in seconds since 1970, as a local date: 2026-01-31 12:00."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def plural(count: float, one: str, many: str = "") -> str:
    """A number and its noun: 1 cell, 2 cells, 1,200 samples."""
    whole = int(count) if count == int(count) else count  # the mean of several seeds is a float
    return f"{whole:,} {one if count == 1 else many or one + 's'}"
