"""The grids of samples of several cells, side by side."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ditexp.report.grids import evenly_spaced
from ditexp.report.picture_files import MAX_PICTURED, is_picture, read_picture
from ditexp.report.plots.style import house_style
from ditexp.report.tables.column import is_finite
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_picture
from ditexp.terminal.units import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CELLS = 9
GAP = 24  # pixels


def side_by_side(table: Table) -> Figure | None:
    """The labelled grids of some cells, in which samples at the same position start from the same noise.

    None if no cell has a grid.
    """
    rows, columns = choose_samples(table)
    tiles: dict[int, Image.Image] = {}
    for row in rows:
        grid = table.rows[row].first.grid
        if grid and (picture := read_picture(grid)):
            tiles[row] = fit(picture, columns)
    if not tiles:
        return None
    from matplotlib.figure import Figure

    width, height = max(tile.width for tile in tiles.values()), max(tile.height for tile in tiles.values())
    titles = [for_picture(table.labels[row], width // 9, max_lines=4) for row in tiles]
    header = 20 * max(title.count("\n") + 1 for title in titles) + 26  # pixels above a tile
    total = (GAP + columns * (width + GAP), GAP + -(-len(tiles) // columns) * (header + height + GAP))
    dpi = 100
    figure = Figure(figsize=(total[0] / dpi, total[1] / dpi), dpi=dpi)
    for i, ((row, tile), title) in enumerate(zip(tiles.items(), titles)):
        x = GAP + i % columns * (width + GAP)
        top = total[1] - GAP - i // columns * (header + height + GAP)
        y = top - header
        figure.figimage(np.asarray(tile), x, y - tile.height)
        at: dict[str, Any] = {"transform": None, "va": "bottom"}
        with house_style():
            figure.text(x, y + 25, title, weight="bold", fontsize=10.5, **at)
            figure.text(x, y + 8, steps_and_fid(table, row), color="#707070", fontsize=9, **at)
    return figure


def steps_and_fid(table: Table, row: int) -> str:
    steps = table.steps[row]
    parts = [plural(steps, "step")] if is_finite(steps) else []
    if table.fid is not None and row in table.fid.finite:
        parts.append(f"{table.fid.header} {table.fid.texts[row]}")
    return "  ·  ".join(parts)


def choose_samples(table: Table) -> tuple[list[int], int]:
    """(Up to nine rows that have a grid, the number of columns to lay them out in).

    The best settings get a line each, with cells from the fewest steps to the most.
    """
    grids = [row.first.grid for row in table.rows[:MAX_PICTURED]]
    shown = [row for row, grid in enumerate(grids) if grid and is_picture(grid)]
    by_steps = sorted(shown, key=lambda row: (table.labels[row], table.steps[row] or 0))
    lines = [list(line) for _, line in groupby(by_steps, key=table.labels.__getitem__)]
    lines.sort(key=min)  # rows are ordered from best to worst
    if not lines:
        return [], 0
    columns = min(max(map(len, lines)), max(3, MAX_CELLS // len(lines)))
    lines = lines[: MAX_CELLS // columns]
    chosen = [line[i] for line in lines for i in evenly_spaced(len(line), columns)]
    return chosen, columns if all(len(line) >= columns for line in lines) and columns > 1 else min(3, len(chosen))


def fit(image: Image.Image, columns: int) -> Image.Image:
    """At a width that leaves room for `columns`: enlarged by a whole number, or reduced smoothly."""
    room = 1600 // columns
    if image.width > room:
        return image.resize((room, round(image.height * room / image.width)), Image.Resampling.LANCZOS)
    factor = max(1, min(room, 400) // image.width)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
