"""One progress bar with an estimate of the time left; silent when nobody watches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ditexp.terminal.console import Terminal
from ditexp.terminal.escape import one_line


class Bar:
    def __init__(self, progress: Progress, task: int):
        self.progress, self.task = progress, task

    def advance(self, amount: int, *, note: str = "") -> None:
        self.progress.update(self.task, advance=amount, note=one_line(note))

    def note(self, text: str) -> None:
        self.progress.update(self.task, note=one_line(text))


@contextmanager
def progress_bar(description: str, *, total: int, completed: int = 0, unit: str = "images") -> Iterator[Bar]:
    """A bar over `total` units, on stderr, gone when done; none in a worker, whose terminal is its parent's."""
    console = Terminal(stderr=True)
    is_seen = console.is_terminal and not multiprocessing.parent_process()
    described = TextColumn("{task.description}", markup=False)
    columns = [described, BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    columns += [
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    ]
    with Progress(*columns, console=console, transient=True, disable=not is_seen) as progress:
        yield Bar(progress, progress.add_task(one_line(description), total=total, completed=completed, note=""))
