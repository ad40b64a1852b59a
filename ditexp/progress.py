"""How far a cell is, as a value: what the terminal, the log and trackers show while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["preparing", "sampling", "scoring"]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a running cell is.

    seconds: since the cell started. images: samples of complete blocks, including those that were there before.
    images_in_progress: samples of blocks that are being made. total_images: samples of the complete set. forwards:
    network evaluations of this run of the cell, one per sample and evaluation. images_per_second: of the last minute
    or so; None before the first samples. seconds_left: of the sampling, estimated; None if unknown. failed_blocks:
    attempts to make a block that failed. note: what the phase does at the moment, in a few words.
    """

    phase: Phase
    seconds: float
    images: int
    images_in_progress: int
    total_images: int
    forwards: float
    images_per_second: float | None
    seconds_left: float | None
    failed_blocks: int
    note: str = ""
