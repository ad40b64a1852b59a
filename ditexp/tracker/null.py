"""No tracker: our own files are enough."""

from __future__ import annotations


class NullTracker:
    def check(self) -> None:
        pass

    def log_cell(self, result: dict) -> None:
        pass

    def log_report(self, study, results, table, paths) -> None:
        pass

    def close(self) -> None:
        pass
