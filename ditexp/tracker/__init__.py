"""Where results are shown in addition to files: nowhere (`null`) or on Weights & Biases (`wandb`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ditexp.report.tables.table import Table
from ditexp.result import Result


class Tracker(Protocol):
    """Shows results, which are already on disk. Its methods must not raise, apart from `check`."""

    def check(self) -> None:
        """Called before any work: print where results will be shown. Raises ValueError for settings that are wrong."""
        ...

    def log_cell(self, result: Result) -> None:
        """Show the result of a cell, done or failed."""
        ...

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        """Show the report of a sweep. table, paths: see `ditexp.report.writing.Report`."""
        ...

    def close(self) -> None:
        """Called after the last report."""
        ...
