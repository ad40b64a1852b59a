"""A row of words beside a bar, at any width: what matters least is left out, and nothing is cut."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

GAP = "  "
MIN_BAR, MAX_BAR = 10, 40
MARGIN = 3  # for the ^C that a terminal shows: at the end of a full line, it would move the rows


class Part(NamedTuple):
    """Some words of a row. rank: 1 is the last to be left out."""

    text: str
    rank: int


class Row:
    """share: how much of the bar is filled, from 0 to 1; None: there is no bar. It stands after the first part."""

    def __init__(self, parts: Iterable[Part], *, share: float | None = None) -> None:
        self.parts, self.share = [part for part in parts if part.text], share

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - MARGIN
        kept = fitting(self.parts, width if self.share is None else width - MIN_BAR - len(GAP))
        texts = [Text(part.text, no_wrap=True, overflow="ellipsis") for part in kept]
        free = width - len(GAP.join(part.text for part in kept)) - len(GAP)
        if self.share is not None and free >= MIN_BAR:
            grid = Table.grid(padding=(0, len(GAP), 0, 0))
            bar = ProgressBar(total=1.0, completed=self.share, width=min(free, MAX_BAR))
            grid.add_row(*texts[:1], bar, *texts[1:])
            yield grid
        else:
            yield Text(GAP).join(texts)


def fitting(parts: Sequence[Part], width: int) -> list[Part]:
    """The parts, in their order, without those of the highest ranks that do not fit; one is always left."""
    kept = list(parts)
    while len(kept) > 1 and len(GAP.join(part.text for part in kept)) > width:
        kept.remove(max(kept, key=lambda part: part.rank))
    return kept
