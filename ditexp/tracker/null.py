"""No tracker: results are in files only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ditexp.progress import Progress
from ditexp.report.tables.table import Table
from ditexp.result import Result


class NullTracker:
    def check(self) -> None:
        pass

    def begin_cell(self, cell: Result) -> None:
        pass

    def log_progress(self, cell: Result, progress: Progress) -> None:
        pass

    def log_preview(self, cell: Result, picture: Path) -> None:
        pass

    def log_cell(self, result: Result) -> None:
        pass

    def log_report(self, study: str, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
        pass

    def close(self) -> None:
        pass
