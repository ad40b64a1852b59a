"""Where runs are shown in addition to files: nowhere (`null`), on Weights & Biases (`wandb`) or on TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from ditexp.progress import Progress
from ditexp.report.tables.table import Table
from ditexp.result import Result


class Tracker(Protocol):
    """Shows results, which are already on disk, and cells that run.

    Its methods must not raise, apart from `check`, and must not wait for a server.
    """

    def check(self) -> None:
        """Called before any work: print where results will be shown. Raises ValueError for settings that are wrong."""
        ...

    def begin_cell(self, cell: Result) -> None:
        """Show a cell that starts now. Its status is "running", and its id is the one that its result will have."""
        ...

    def log_progress(self, cell: Result, progress: Progress) -> None:
        """Called about once a second while a cell runs; show as much of it as is useful."""
        ...

    def log_preview(self, cell: Result, picture: Path) -> None:
        """Show the first samples of a cell that runs. picture: a PNG file, which may change later."""
        ...

    def log_cell(self, result: Result) -> None:
        """Show the result of a cell, done or failed, whether it was begun or not."""
        ...

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        """Show the report of a sweep. table, paths: see `ditexp.report.writing.Report`."""
        ...

    def close(self) -> None:
        """Called after the last report."""
        ...


@runtime_checkable
class SlowTracker(Tracker, Protocol):
    """A tracker whose `check` waits for something that can go on beside other work."""

    def begin(self) -> None:
        """Called some time before `check`: start what that waits for."""
        ...
