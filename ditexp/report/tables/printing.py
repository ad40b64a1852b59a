"""A table on the terminal, at its width: less important columns are left out, numbers are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table as RichTable
from rich.text import Text

from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.terminal.console import Terminal
from ditexp.terminal.escape import one_line

FILE_WIDTH = 240  # characters in a pipe or a file, or more if the table needs them
CAPTION_WIDTH = 100  # characters, if the table is narrower
LINES = 3  # of a long text in a table
MAX_ROWS = 200  # of a table that is printed
MAX_ERRORS = 5  # that are named below a table without room for them
# The order in which columns get room, after the settings, the steps and the first metric; those not named come first.
LATER = ("seconds_per_image", "peak_memory_mb", "seeds", "nfe", "images_per_second", "source", "error")


class Room(NamedTuple):
    """The width of a column in characters.

    least: so that no number and no word is cut. good: so that long texts have about LINES lines. most: all in one line.
    """

    least: int
    good: int
    most: int


def print_table(terminal: Terminal, table: Table, *, file: str) -> None:
    """Print a table with its caption. On a terminal, what does not fit is named in a line.

    file: has all columns.
    """
    rooms = [room_of(column) for column in table.columns]
    if terminal.is_terminal:
        third = terminal.width // 3
        rooms = [Room(min(room.least, third), min(room.good, third), room.most) for room in rooms]
        shown, width = fitting(table.columns, rooms, terminal.width), terminal.width
    else:
        shown = list(range(len(rooms)))
        width = max(FILE_WIDTH, total([room.least for room in rooms]))
    widths = shared_out([rooms[i] for i in shown], width)
    drawn = RichTable()
    for i, room in zip(shown, widths):
        column = table.columns[i]
        side = "right" if column.is_number else "left"
        drawn.add_column(Text(one_line(column.header)), justify=side, width=room, overflow="fold")
    for texts in table.body(escape=Text, bold=lambda text: Text(text.plain, style="bold green"))[:MAX_ROWS]:
        drawn.add_row(*(texts[i] for i in shown))
    drawn.width = total(widths)
    terminal.print(drawn, crop=False)
    left_out = [column for i, column in enumerate(table.columns) if i not in shown]
    more = len(table.columns[0].values) - MAX_ROWS
    rows = [f"{more:,} more rows: see {file}."] if more > 0 else []
    lines = [*rows, *table.caption, *lines_on(left_out, table, file)]
    for line in lines:
        narrow = min(terminal.width, max(drawn.width, CAPTION_WIDTH))
        terminal.print(Text(one_line(line), style="table.caption"), width=narrow)


def lines_on(left_out: Sequence[Column], table: Table, file: str) -> list[str]:
    """The names of columns without room, and the errors if theirs is one."""
    names = [column.header for column in left_out if column.kind != "error"]
    lines = [f"Left out here: {' · '.join(names)} (see {file})."] if names else []
    errors = [
        f"{table.name(row)}: {error}"
        for column in left_out
        if column.kind == "error"
        for row, error in enumerate(column.values)
        if error
    ]
    more = len(errors) - MAX_ERRORS
    return [*lines, *errors[:MAX_ERRORS], *([f"{more} more errors: see {file}."] if more > 0 else [])]


def room_of(column: Column) -> Room:
    """Texts of settings and errors may wrap at spaces, and headers may."""
    texts = list(map(one_line, column.texts))
    words = [word for text in (column.header, *(() if column.is_number else texts)) for word in text.split()]
    whole = texts if column.kind in ("cost", "metric") or column.is_number else []
    least = max(Text(text).cell_len for text in (*whole, *words, ""))
    most = max(Text(text).cell_len for text in (*texts, one_line(column.header)))
    return Room(least, least if whole else max(least, most // LINES), most)


def fitting(columns: Sequence[Column], rooms: Sequence[Room], width: int) -> list[int]:
    """The columns that fit, in their order; at least the most important one."""
    chosen: list[int] = []
    for i in sorted(range(len(columns)), key=lambda i: importance(columns, i)):
        is_needed = importance(columns, i)[0] < 2  # long texts get less room for it, but not for others
        needed = [rooms[each].least if is_needed else rooms[each].good for each in (*chosen, i)]
        if not chosen or total(needed) <= width:
            chosen.append(i)
    return sorted(chosen)


def importance(columns: Sequence[Column], i: int) -> tuple[int, int]:
    """A key to sort by, most important first: settings, the first metric, forwards, other metrics, other costs."""
    column = columns[i]
    metrics = [each for each in columns if each.kind == "metric"]
    if column.name in LATER or column.name.endswith("_best_seed"):
        return (4, LATER.index(column.name) if column.name in LATER else len(LATER))
    if column.kind == "setting" or column.name == "steps":
        return (0, i)
    return (1 if column in metrics[:1] else 2 if column.name == "forwards" else 3, i)


def total(widths: Sequence[int]) -> int:
    """The width of a table with its borders."""
    return sum(widths) + 3 * len(widths) + 1


def shared_out(rooms: Sequence[Room], width: int) -> list[int]:
    """The widths of columns: what is left of `width` goes to the columns whose texts are cut the most."""
    widths = [min(room.least, width - 4) for room in rooms]
    for _ in range(width - total(widths)):
        i = max(range(len(rooms)), key=lambda i: rooms[i].most - widths[i])
        if widths[i] >= rooms[i].most:
            break
        widths[i] += 1
    return widths
