"""One progress bar with an estimate of the time left; silent when nobody watches."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Bar:
    def __init__(self, progress: Progress, task: int):
        self.progress, self.task = progress, task

    def advance(self, amount: int, *, note: str = "") -> None:
        self.progress.update(self.task, advance=amount, note=note)

    def note(self, text: str) -> None:
        self.progress.update(self.task, note=text)


@contextmanager
def progress_bar(description: str, *, total: int, completed: int = 0, unit: str = "images") -> Iterator[Bar]:
    """A bar over `total` units, on stderr, gone when done; none in a worker, whose terminal is its parent's."""
    console = Console(stderr=True)
    is_seen = console.is_terminal and not multiprocessing.parent_process()
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit)]
    columns += [
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    ]
    with Progress(*columns, console=console, transient=True, disable=not is_seen) as progress:
        yield Bar(progress, progress.add_task(description, total=total, completed=completed, note=""))
