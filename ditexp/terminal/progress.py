"""Progress bars with an estimate of the time left; silent where nobody watches."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager

from ditexp.progress import Pace
from ditexp.terminal.console import live
from ditexp.terminal.escape import one_line
from ditexp.terminal.row import Part, Row
from ditexp.terminal.units import duration


class Bar:
    """Work of a known amount: `done` of `total` units; without a total, only what it is."""

    def __init__(self, description: str, *, total: float = 0, completed: float = 0, unit: str = "") -> None:
        self.description, self.unit = one_line(description), unit
        self.total, self.done, self.about = total, completed, ""

    def advance(self, amount: float, *, note: str = "") -> None:
        self.done += amount
        self.note(note)

    def note(self, text: str) -> None:
        self.about = one_line(text)

    @property
    def amount(self) -> str:
        return f"{self.done:,.0f} of {self.total:,.0f} {self.unit}" if self.total else ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.description, self.amount, self.about)))


Shown = Callable[[Bar], AbstractContextManager[None]]


@contextmanager
def on_terminal(bar: Bar) -> Generator[None]:
    """A row on the terminal, with an estimate of the time left."""
    pace, start = Pace(), time.monotonic()

    def row() -> Row:
        now = time.monotonic()
        pace.add(now, bar.done)
        left = f"{duration((bar.total - bar.done) / pace.rate)} left" if pace.rate and bar.done < bar.total else ""
        words = [Part(bar.description, 3), Part(bar.amount, 1), Part(duration(now - start), 5), Part(left, 2)]
        return Row([*words, Part(bar.about, 4)], share=bar.done / bar.total if bar.total else None)

    with live(row):
        yield


_shown: Shown = on_terminal


@contextmanager
def shown_by(shown: Shown) -> Generator[None]:
    """Have all bars of the body shown in another way."""
    global _shown
    _shown, before = shown, _shown
    try:
        yield
    finally:
        _shown = before


@contextmanager
def progress_bar(description: str, *, total: float, completed: float = 0, unit: str = "images") -> Generator[Bar]:
    """A bar over `total` units, of which `completed` are done."""
    bar = Bar(description, total=total, completed=completed, unit=unit)
    with _shown(bar):
        yield bar
