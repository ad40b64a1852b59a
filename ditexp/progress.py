"""How far a cell is, as a value: what the terminal, the log and trackers show while it runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

Phase = Literal["preparing", "sampling", "scoring"]

WINDOW = 60.0  # seconds that a rate is of
MIN_SPAN = 2.0  # seconds, before which a rate says nothing


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a running cell is.

    seconds: since the cell started. images: samples of complete blocks, including those that were there before.
    images_in_progress: samples of blocks that are being made, where a batch that is half done counts half.
    total_images: samples of all blocks, at least num_samples. forwards: network evaluations of this run of the cell,
    one per sample and evaluation. images_per_second: of the last minute or so; None before the first samples.
    seconds_left: of the sampling, estimated; None if unknown. failed_blocks: attempts to make a block that failed.
    note: what the phase does at the moment, in a few words.
    """

    phase: Phase
    seconds: float
    images: int
    images_in_progress: float
    total_images: int
    forwards: float
    images_per_second: float | None
    seconds_left: float | None
    failed_blocks: int
    note: str = ""


class Pace:
    """The rate of an amount that grows, over the last minute, or over its last two changes if these took longer."""

    def __init__(self) -> None:
        self._changes: deque[tuple[float, float]] = deque()

    def add(self, seconds: float, amount: float) -> None:
        """Note the amount at a time. An amount that shrinks, as when a worker dies, begins anew."""
        changes = self._changes
        if changes and amount == changes[-1][1]:
            return
        if changes and amount < changes[-1][1]:
            changes.clear()
        changes.append((seconds, amount))
        while len(changes) > 2 and changes[1][0] < seconds - WINDOW:
            changes.popleft()

    @property
    def rate(self) -> float | None:
        """Per second; None while it is unknown."""
        if len(self._changes) < 2:
            return None
        (start, before), (end, after) = self._changes[0], self._changes[-1]
        return (after - before) / (end - start) if end - start >= MIN_SPAN else None
