"""The pictures of a sweep: quality against cost, heat map, errors along t."""

from __future__ import annotations

import math
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ditexp.report.columns import Column, is_finite
from ditexp.report.table import Table
from ditexp.terminal.escape import for_picture, one_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # Okabe and Ito
MARKERS = ["o", "s", "^", "D", "v", "P"]
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5))]
INK, GREY, FAINT = "#222222", "#707070", "#e6e6e6"
FRONT = "Pareto front (filled)"
MAX_LABELS = 24  # beyond, only the points of the Pareto front are labelled
MAX_LINES = 12  # of errors along t
AXES = {"forwards": "network evaluations per image", "seconds_per_image": "seconds per image"}


@contextmanager
def house_style() -> Iterator[None]:
    """How figures look, and that no text in them is mathematics; also while they are saved."""
    import matplotlib

    style = {
        "text.parse_math": False,
        "text.usetex": False,
        "axes.formatter.use_mathtext": False,
        "font.size": 10,
        "text.color": INK,
        "axes.edgecolor": GREY,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.7,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }
    with matplotlib.rc_context(style):
        yield


def save(figure: Figure, path: Path) -> None:
    """As PNG. What the font has no glyph for is a box there; the page and the tables have the text itself."""
    with house_style(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from")
        figure.savefig(path, format="png", facecolor="white")


def quality_vs_cost(table: Table, quality: Column | None) -> Figure | None:
    """FID, or another column, against network evaluations and seconds per image; None if there is nothing to draw."""
    if quality is None:
        return None
    values = quality.values
    panels = {
        name: rows
        for name in AXES
        if (cost := table.column(name)) is not None
        and (rows := [r for r, v in enumerate(cost.values) if is_finite(v) and v > 0 and is_finite(values[r])])
    }
    if not panels:
        return None
    from matplotlib.figure import Figure

    styles = line_styles(table, sorted(set().union(*panels.values())))
    with house_style():
        width = max(5.2 * len(panels), 7)
        labels = {label: for_picture(label, int(12 * width) - 10) for label in styles}
        entries = [line for label in [*labels.values(), FRONT] for line in label.split("\n")]
        ncols = int(14 * width) // (10 + max(map(len, entries))) or 1
        note = ["The numbers at the points are steps.", *map(one_line, table.caption)]
        lines = [line for text in note for line in textwrap.wrap(text, int(14.5 * width))]
        height = 4 + 0.2 * math.ceil(len(entries) / ncols) + 0.14 * len(lines)
        figure = Figure(figsize=(width + 0.2, height), dpi=200, layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06, wspace=0.05)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, rows) in zip(axes, panels.items()):
            draw_panel(ax, table, quality, name, rows, styles, labels)
        axes[0].set_title(for_picture(f"{quality.header}, lower is better", 70), loc="left", fontsize=11, weight="bold")
        handles, shown = axes[0].get_legend_handles_labels()
        figure.legend(handles, shown, loc="outside upper left", ncols=ncols, frameon=False, columnspacing=1.6)
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=GREY)
    return figure


def heat_map(table: Table, quality: Column | None) -> Figure | None:
    """FID, or another column, of every solver at every cost: steps, or forwards where solvers share these rather.

    None unless there are two rows and two columns, half of whose places are measured.
    """
    if quality is None:
        return None
    grids = [grid_of(table, quality, name) for name in ("steps", "forwards")]
    name, labels, costs, places = max(grids, key=lambda grid: len(grid[3]) / max(1, len(grid[1]) * len(grid[2])))
    if min(len(labels), len(costs)) < 2 or len(places) < len(labels) * len(costs) / 2:
        return None
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    values = [quality.values[row] for row in places.values()]
    is_wide = min(values) > 0 and max(values) > 10 * min(values)
    norm = (LogNorm if is_wide else Normalize)(min(values), max(values))
    shown = [for_picture(label, 40) for label in labels]
    longest = max(len(line) for label in shown for line in label.split("\n"))
    width = max(2.6, 1 + 0.08 * longest) + 0.95 * len(costs)
    height = 1.5 + sum(max(0.36, 0.18 * (label.count("\n") + 1)) for label in shown)
    with house_style():
        figure = Figure(figsize=(width, height), dpi=200, layout="constrained")
        ax = figure.subplots()
        ax.grid(False)
        image = [[quality.values[places[at]] if (at := (y, x)) in places else math.nan for x in costs] for y in labels]
        drawn = ax.imshow(image, norm=norm, cmap="viridis" if quality.goal is max else "viridis_r", aspect="auto")
        for (label, cost), row in places.items():
            is_dark = sum(drawn.cmap(norm(quality.values[row]))[:3]) < 1.5
            ax.text(
                costs.index(cost),
                labels.index(label),
                f"{quality.values[row]:.3g}" + quality.mark(row),
                ha="center",
                va="center",
                fontsize=9,
                color="white" if is_dark else INK,
                weight="bold" if row in quality.best else "normal",
            )
        ax.set_xticks(range(len(costs)), [f"{cost:g}" for cost in costs])
        ax.set_yticks(range(len(labels)), shown)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel(AXES.get(name, name))
        ax.set_title(for_picture(quality.header, 40), loc="left", fontsize=11, weight="bold")
    return figure


def grid_of(table: Table, quality: Column, name: str) -> tuple[str, list[str], list[float], dict]:
    """The rows' labels, their costs of that name, and by (label, cost) the row that was measured there."""
    cost = table.column(name)
    costs = cost.values if cost else ()
    places = {
        (table.label(row), value): row
        for row, value in enumerate(costs)
        if is_finite(value) and is_finite(quality.values[row])
    }
    labels, values = (sorted(set(found)) for found in zip(*places)) if places else ([], [])
    return name, labels, values, places


def line_styles(table: Table, rows: list[int]) -> dict[str, dict]:
    """Colour tells solvers apart, marker and dash the other settings; one solver's lines all by colour."""
    labels = list(dict.fromkeys(table.label(row) for row in rows))
    solver_of = {table.label(row): table.column("solver").values[row] for row in rows}
    hues = list(dict.fromkeys(solver_of.values()))
    if len(hues) == 1:
        solver_of, hues = {label: label for label in labels}, labels
    labels = sorted(labels, key=lambda label: hues.index(solver_of[label]))
    seen = dict.fromkeys(hues, 0)
    styles = {}
    for label in labels:
        hue = solver_of[label]
        # More hues than colours: the second round of the palette takes the next marker and dash.
        variant = seen[hue] + hues.index(hue) // len(PALETTE)
        seen[hue] += 1
        styles[label] = {
            "color": PALETTE[hues.index(hue) % len(PALETTE)],
            "marker": MARKERS[variant % len(MARKERS)],
            "linestyle": DASHES[variant % len(DASHES)],
        }
    return styles


def draw_panel(
    ax,
    table: Table,
    column: Column,
    cost_name: str,
    rows: list[int],
    styles: dict[str, dict],
    labels: dict[str, str],
) -> None:
    """styles, labels: of each line, by `table.label`."""
    cost, quality = table.column(cost_name).values, column.values
    front = pareto_front({row: (cost[row], quality[row]) for row in rows}) if column.goal is not None else []
    scale_axis(ax, "x", [cost[row] for row in rows], log_beyond=3)
    scale_axis(ax, "y", [quality[row] for row in rows], log_beyond=10)
    for label, style in styles.items():
        line = sorted((row for row in rows if table.label(row) == label), key=lambda row: cost[row])
        x, y = [cost[row] for row in line], [quality[row] for row in line]
        ax.plot(x, y, **style, label=labels[label], linewidth=1.7, markersize=6, markerfacecolor="white", zorder=3)
        best = [row for row in line if row in front]
        x, y = [cost[row] for row in best], [quality[row] for row in best]
        ax.plot(x, y, style["marker"], color=style["color"], markersize=7.5, zorder=4)
    if len(front) > 1:
        # The best quality that each budget buys: a staircase, since nothing was measured between the points.
        x, y = [cost[row] for row in front], [quality[row] for row in front]
        x, y = [*x, ax.get_xlim()[1]], [*y, y[-1]]
        ax.plot(
            x,
            y,
            color="#c4c4c4",
            linewidth=1.2,
            drawstyle="steps-post",
            zorder=2,
            label=FRONT,
        )
    points = {row: (cost[row], quality[row]) for row in [*front, *(row for row in rows if row not in front)]}
    label_steps(ax, table, points, front, styles)
    ax.set_xlabel(AXES[cost_name])


def label_steps(ax, table: Table, points: dict[int, tuple], front: list[int], styles: dict) -> None:
    """Write steps beside the points, those of the front first, where there is room."""
    from matplotlib.patheffects import withStroke

    steps = table.column("steps").values
    placed: list[tuple[float, float]] = []
    for row, point in points.items():
        if len(points) > MAX_LABELS and row not in front:
            continue
        side = -1 if row in front else 1
        x, y = ax.transData.transform(point) / ax.figure.dpi * 72 + 5 * side  # in points
        if not is_finite(steps[row]) or any(abs(x - u) < 14 and abs(y - v) < 8 for u, v in placed):
            continue
        placed.append((x, y))
        ax.annotate(
            f"{steps[row]:g}",
            point,
            xytext=(5 * side, 5 * side),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="top" if side < 0 else "bottom",
            fontsize=8,
            color=styles[table.label(row)]["color"],
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            zorder=5,
        )


def error_along_t(table: Table) -> Figure | None:
    """How far from the exact paths the samples of each cell are at each time, by metric=trajectory; None without it."""
    along = {
        row: points
        for row, result in enumerate(table.results)
        if len(points := result.get("trajectory", {}).get("error_along_t") or ()) > 1
    }
    if not along:
        return None
    from matplotlib.figure import Figure

    rows = list(along)[:MAX_LINES]  # the best come first
    styles = line_styles(table, rows)
    labels = [for_picture(f"{table.label(row)}, {len(along[row]) - 1} steps", 44) for row in rows]
    height = max(4.6, 1 + 0.15 * sum(label.count("\n") + 1 for label in labels))
    with house_style():
        figure = Figure(figsize=(7.6, height), dpi=200, layout="constrained")
        ax = figure.subplots()
        for row, label in zip(rows, labels):
            t, errors = zip(*along[row][1:])  # there is none at the start
            ax.plot(t, errors, **styles[table.label(row)], label=label, linewidth=1.4, markersize=4)
        if errors := [error for row in rows for _, error in along[row][1:] if is_finite(error) and error > 0]:
            scale_axis(ax, "y", errors, log_beyond=1)
        ax.set_xlabel("t, from noise (0) to data (1)")
        ax.set_title("RMS difference from the exact paths", loc="left", fontsize=11, weight="bold")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
        if len(along) > len(rows):
            note = f"The {len(rows)} best of {len(along)} cells."
            figure.supxlabel(note, x=0.01, ha="left", fontsize=8, color=GREY)
    return figure


def scale_axis(ax, axis: str, values: list[float], *, log_beyond: float) -> None:
    """Leave room for labels; make the axis logarithmic if the values span more than `log_beyond` times."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    low, high = min(values), max(values)
    limits = {"x": ax.set_xlim, "y": ax.set_ylim}[axis]
    if low <= 0 or high <= log_beyond * low:
        room = 0.12 * (high - low) or 0.1 * abs(high) or 1
        limits(low - room, high + room)
        return
    {"x": ax.set_xscale, "y": ax.set_yscale}[axis]("log")
    room = max((high / low) ** 0.1, 1.3)
    limits(low / room, high * room)
    ticks = {"x": ax.xaxis, "y": ax.yaxis}[axis]
    subs = (1, 2, 5) if high / low < 300 else (1,)
    ticks.set_major_locator(LogLocator(subs=subs, numticks=12))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ticks.set_minor_locator(NullLocator())


def pareto_front(points: dict[int, tuple[float, float]]) -> list[int]:
    """The rows that no other row beats in both cost and quality, cheapest first."""
    front: list[int] = []
    for row in sorted(points, key=points.get):
        if not front or points[row][1] < points[front[-1]][1]:
            front.append(row)
    return front
