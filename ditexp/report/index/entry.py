"""What the index says about a report: report.json in the report's folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

from ditexp.files.json_values import decode
from ditexp.files.records import read_record
from ditexp.report.html.embedding import encode_webp, uri
from ditexp.report.picture_files import flaw_of, read_picture
from ditexp.report.tables.table import Table
from ditexp.terminal.units import date

FILE = "report.json"
SIZE = (288, 192)  # of the small picture, in pixels


@dataclass(frozen=True)
class Entry:
    """title: what was swept. written: when, in seconds since 1970. cells, done: how many there are, and are done.

    metric, best, best_cell: the first metric, its best value, and the cell that has it; empty without one. picture: a
    data URI; may be empty.
    """

    title: str
    written: float
    cells: int
    done: int
    metric: str = ""
    best: str = ""
    best_cell: str = ""
    picture: str = ""


def entry_of(table: Table, *, title: str, figure: Path | None) -> Entry:
    """figure: drawn in the report, in case the best cell has no picture."""
    members = [member for row in table.rows for member in row.members]
    entry = Entry(
        title=title,
        written=time.time(),
        cells=len(members),
        done=sum(member.is_done for member in members),
        picture=small_picture(table, figure),
    )
    first = next((column for column in table.columns if column.kind == "metric"), None)
    if not first or not first.finite:
        return entry
    row = min(first.finite)  # rows are ordered from best to worst
    return replace(entry, metric=first.header, best=first.texts[row], best_cell=table.name(row))


def small_picture(table: Table, figure: Path | None) -> str:
    """The upper left part of the best cell's samples, or else of the figure; "" without either."""
    grids = [row.first.grid for row in table.rows[:3]]
    for path in filter(None, (*grids, figure)):
        if not flaw_of(path) and (image := read_picture(path)):  # another part of the report warns
            width, height = SIZE
            side = min(max(width, image.width // 2), image.width, image.height * width // height)
            image = image.crop((0, 0, side, side * height // width))
            return uri("webp", encode_webp(image.resize(SIZE, Image.Resampling.LANCZOS), quality=75))
    return ""


def read_entry(folder: Path) -> Entry:
    """The entry of a report. Raises ValueError that says what is wrong with it."""
    try:
        found = read_record(folder / FILE, {})
    except FileNotFoundError:
        raise ValueError(f"{FILE} is missing: write the report again") from None
    except OSError as error:
        raise ValueError(f"{FILE} cannot be read ({error})") from None
    try:
        entry: Entry = decode(Entry, found)
        date(entry.written)
    except (ValueError, OSError, OverflowError) as error:
        raise ValueError(f"{FILE} is damaged ({error}): write the report again") from None
    return entry
