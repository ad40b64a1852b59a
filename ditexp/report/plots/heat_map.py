"""A heat map: the quality of every solver at every cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ditexp.report.plots.style import AXIS_LABELS, INK, MAX_LINES, house_style, titled
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Grid:
    """labels: of the lines. costs: of the columns, in terms of the cost `name`. places: the row at (label, cost)."""

    name: str
    labels: list[str]
    costs: list[float]
    places: dict[tuple[str, float], int]

    @property
    def filled(self) -> float:
        """The fraction of places that have a row."""
        return len(self.places) / max(1, len(self.labels) * len(self.costs))

    def of_best_lines(self, quality: Column) -> Grid:
        """With up to MAX_LINES lines, those with the best cells."""
        ranked = sorted(self.places, key=lambda place: quality.values[self.places[place]], reverse=quality.goal is max)
        labels = [*dict.fromkeys(label for label, _ in ranked)][:MAX_LINES]
        places = {place: row for place, row in self.places.items() if place[0] in labels}
        return replace(self, labels=sorted(labels), places=places)


def heat_map(table: Table, quality: Column | None) -> Figure | None:
    """FID or another metric of every solver at every number of steps, or of forwards if more solvers share these.

    None unless there are at least two lines and two to MAX_LINES columns, and half of the places have a value.
    """
    if quality is None:
        return None
    grid = max((grid_of(table, quality, name) for name in ("steps", "forwards")), key=lambda grid: grid.filled)
    if len(grid.labels) < 2 or not 2 <= len(grid.costs) <= MAX_LINES or grid.filled < 0.5:
        return None
    from matplotlib.figure import Figure

    lines, grid = len(grid.labels), grid.of_best_lines(quality)
    shown = [for_picture(label, 40) for label in grid.labels]
    longest = max(len(line) for label in shown for line in label.split("\n"))
    width = max(2.6, 1 + 0.08 * longest) + 0.95 * len(grid.costs)
    height = 1.5 + sum(max(0.36, 0.18 * (label.count("\n") + 1)) for label in shown)
    with house_style():
        figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
        ax = figure.subplots()
        draw_cells(ax, quality, grid)
        ax.set_xticks(range(len(grid.costs)), [f"{cost:g}" for cost in grid.costs])
        ax.set_yticks(range(len(grid.labels)), shown)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(AXIS_LABELS.get(grid.name, grid.name))
        what = quality.header if len(shown) == lines else f"{quality.header}, the best {len(shown)} of {lines} lines"
        heading = titled(what, table, width=int(10 * width))
        ax.set_title(heading, loc="left", fontsize=11, weight="bold")
    return figure


def grid_of(table: Table, quality: Column, name: str) -> Grid:
    """The rows that have both the metric and the cost of that name."""
    cost = table.column(name)
    rows = {row: value for row, value in cost.finite.items() if row in quality.finite} if cost else {}
    places = {(table.labels[row], value): row for row, value in rows.items()}
    return Grid(name, sorted({label for label, _ in places}), sorted({value for _, value in places}), places)


def draw_cells(ax: Axes, quality: Column, grid: Grid) -> None:
    from matplotlib.colors import LogNorm, Normalize

    values = {place: quality.values[row] for place, row in grid.places.items()}
    low, high = min(values.values()), max(values.values())
    norm = (LogNorm if low > 0 and high > 10 * low else Normalize)(low, high)
    ax.grid(False)
    image = [[values.get((label, cost), math.nan) for cost in grid.costs] for label in grid.labels]
    drawn = ax.imshow(image, norm=norm, cmap="viridis" if quality.goal is max else "viridis_r", aspect="auto")
    lines, columns = ({each: i for i, each in enumerate(axis)} for axis in (grid.labels, grid.costs))
    for (label, cost), row in grid.places.items():
        is_dark = sum(drawn.cmap(norm(quality.values[row]))[:3]) < 1.5
        ax.text(
            columns[cost],
            lines[label],
            f"{quality.values[row]:.3g}" + quality.mark(row),
            ha="center",
            va="center",
            fontsize=9,
            color="white" if is_dark else INK,
            weight="bold" if row in quality.best else "normal",
            in_layout=False,  # it is within the axes
        )
