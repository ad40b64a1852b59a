"""Amounts in units that are easy to read."""

from __future__ import annotations


def amount(size: float) -> str:
    """A number of bytes in the largest fitting unit, in powers of 1,000: 1.5 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
