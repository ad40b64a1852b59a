"""A progress bar with an estimate of the time left; silent where nobody watches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ditexp.terminal.console import Terminal
from ditexp.terminal.escape import one_line


class Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress, self.task = progress, task

    def advance(self, amount: float, *, note: str = "") -> None:
        self.progress.update(self.task, advance=amount, note=one_line(note))

    def note(self, text: str) -> None:
        self.progress.update(self.task, note=one_line(text))


@contextmanager
def progress_bar(description: str, *, total: int, completed: int = 0, unit: str = "images") -> Generator[Bar]:
    """A bar over `total` units on stderr, gone at the end; hidden in workers, which share their parent's terminal."""
    console = Terminal(stderr=True)
    is_seen = console.is_terminal and not multiprocessing.parent_process()
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True, disable=not is_seen) as progress:
        yield Bar(progress, progress.add_task(one_line(description), total=total, completed=completed, note=""))
