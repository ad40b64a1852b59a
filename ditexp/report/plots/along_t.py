"""The error along each path, from noise to data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ditexp.report.plots.style import GREY, house_style, line_styles, scale_axis, titled
from ditexp.report.tables.column import is_finite
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_picture
from ditexp.terminal.units import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LINES = 12


def error_along_t(table: Table) -> Figure | None:
    """The root mean square error of x at each time t, by metric=trajectory; None without this metric."""
    along = {row: points for row, each in enumerate(table.rows) if len(points := each.first.error_along_t) > 1}
    if not along:
        return None
    from matplotlib.figure import Figure

    rows = list(along)[:MAX_LINES]  # the best come first
    styles = line_styles(table, rows)
    labels = [for_picture(f"{table.labels[row]}, {plural(len(along[row]) - 1, 'step')}", 44) for row in rows]
    height = max(4.6, 1 + 0.15 * sum(label.count("\n") + 1 for label in labels))
    with house_style():
        figure = Figure(figsize=(7.6, height), dpi=200, layout="constrained")
        ax = figure.subplots()
        for row, label in zip(rows, labels):
            t, errors = zip(*along[row][1:])  # the error at the start is 0
            style = styles[table.labels[row]]
            ax.plot(
                t,
                errors,
                color=style.color,
                marker=style.marker,
                linestyle=style.linestyle,
                label=label,
                linewidth=1.4,
                markersize=4,
            )
        if errors := [error for row in rows for _, error in along[row][1:] if is_finite(error) and error > 0]:
            scale_axis(ax, "y", errors, log_beyond=1)
        ax.set_xlim(left=0)
        ax.set_xlabel("t, from noise (0) to data (1)")
        heading = titled("RMS error relative to the exact paths", table, width=60)
        ax.set_title(heading, loc="left", fontsize=11, weight="bold")
        ax.set_ylabel("RMS error of x")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        if len(along) > len(rows):
            note = f"The best {len(rows)} of {len(along)} cells."
            figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=GREY)
    return figure
