"""Where results are shown besides our own files: nowhere (`null`) or Weights & Biases (`wandb`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ditexp.report.table import Table


class Tracker(Protocol):
    """Shows results that are on disk already, so that it may lose nothing and must never raise."""

    def check(self) -> None:
        """Before any work: say where results will be shown. Raises ValueError for settings that can't be used."""
        ...

    def log_cell(self, result: dict) -> None:
        """Show the result of one cell, done or failed."""
        ...

    def log_report(self, study: str, results: Sequence[dict], table: Table, paths: Mapping[str, Path | None]) -> None:
        """Show the table and the pictures of a sweep (`ditexp.report.Report`)."""
        ...

    def close(self) -> None: ...
