"""Shows a cell while it runs: live on the terminal, as lines in its log and, without a terminal, on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group

from ditexp.progress import Progress
from ditexp.result import Result
from ditexp.run.forecast import Forecast
from ditexp.terminal.console import LOG_FILE, live
from ditexp.terminal.row import Part, Row
from ditexp.terminal.units import duration, plural

EVERY = 60.0  # seconds between two lines of a log


@dataclass(frozen=True)
class Place:
    """Of a cell in its sweep. number: from 1 to total. title: of the cell."""

    title: str
    number: int
    total: int
    forecast: Forecast

    @property
    def words(self) -> str:
        return f"cell {self.number} of {self.total}" if self.total > 1 else ""

    def sweep_left(self, cell: Result, progress: Progress) -> str:
        """The time left of the sweep, in words; empty if it is unknown, or there are no further cells."""
        seconds = self.forecast.seconds_left(cell, progress) if self.number < self.total else None
        return "" if seconds is None else f"sweep {duration(seconds)} left"


class Display:
    """The live display of a cell, on a terminal."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._rows = Group()

    @contextmanager
    def shown(self) -> Generator[None]:
        with live(lambda: self._rows):
            yield

    def begin_cell(self, cell: Result) -> None: ...

    def log_preview(self, cell: Result, picture: Path) -> None: ...

    def log_progress(self, cell: Result, progress: Progress) -> None:
        where = [Part(self.place.words, 2), Part(self.place.title, 1), Part(self.place.sweep_left(cell, progress), 3)]
        if progress.phase == "sampling":
            numbers = [Part(amount(progress), 1), Part(time_left(progress), 2), Part(rate(progress), 3)]
            share = done(progress) / max(1, progress.total_images)
            self._rows = Group(Row([*where, Part(progress.note, 4)]), Row(numbers, share=share))
        else:
            self._rows = Group(Row(where), Row([Part(progress.note or progress.phase, 1)]))


class LogLines:
    """A line at each phase and every minute: in the run's log and, without a terminal, on stderr."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._log = LOG_FILE if sys.stderr.isatty() else logging.getLogger("ditexp.progress")
        self._phase, self._next = "", 0.0

    def begin_cell(self, cell: Result) -> None:
        facts = {name: value for name, value in cell.provenance.items() if name != "time"}
        for line in (
            f"command: {cell.command}",
            f"this cell alone: {cell.cell_command}",
            f"made by: {', '.join(f'{name} {value}' for name, value in facts.items())}",
            f"sample set {cell.sample_id}, result {cell.id}",
        ):
            LOG_FILE.info(line)

    def log_preview(self, cell: Result, picture: Path) -> None:
        LOG_FILE.info(f"first samples: {picture}")

    def log_progress(self, cell: Result, progress: Progress) -> None:
        if progress.phase == self._phase and progress.seconds < self._next:
            return
        self._phase, self._next = progress.phase, progress.seconds + EVERY
        words = [amount(progress), rate(progress), time_left(progress)] if progress.phase == "sampling" else []
        words += [self.place.sweep_left(cell, progress), progress.note]
        where = f"{self.place.words} ({self.place.title})" if self.place.words else self.place.title
        what = ", ".join([progress.phase, *filter(None, words)])
        self._log.info(f"{where} after {duration(progress.seconds)}: {what}")


def done(progress: Progress) -> float:
    return progress.images + progress.images_in_progress


def amount(progress: Progress) -> str:
    failed = f", {plural(progress.failed_blocks, 'failed attempt')}" if progress.failed_blocks else ""
    return f"{done(progress):,.0f} of {progress.total_images:,} images{failed}"


def rate(progress: Progress) -> str:
    return f"{progress.images_per_second:.3g} images/s" if progress.images_per_second else ""


def time_left(progress: Progress) -> str:
    return "" if progress.seconds_left is None else f"{duration(progress.seconds_left)} left"
