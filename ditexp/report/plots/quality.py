"""Quality against cost: a line for each solver and setting, and the Pareto front."""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from ditexp.report.pareto import front_of
from ditexp.report.plots.style import (
    AXIS_LABELS,
    GREY,
    MAX_LINES,
    LineStyle,
    house_style,
    line_styles,
    scale_axis,
    titled,
)
from ditexp.report.tables.column import Column, is_finite
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_picture, one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FRONT = "Pareto front (filled)"
MAX_LABELS = 24  # with more points, only those of the Pareto front are labelled


def quality_vs_cost(table: Table, quality: Column | None) -> Figure | None:
    """FID or another metric against network evaluations and seconds per image; None without anything to draw."""
    panels = panels_of(table, quality) if quality else {}
    if not quality or not panels:
        return None
    from matplotlib.figure import Figure

    panels, left_out = with_fewer_lines(table, quality, panels)
    styles = line_styles(table, sorted(set().union(*panels.values())))
    with house_style():
        width = max(5.2 * len(panels), 7)
        labels = {label: for_picture(label, int(12 * width) - 10) for label in styles}
        entries = [line for label in [*labels.values(), FRONT] for line in label.split("\n")]
        ncols = int(14 * width) // (10 + max(map(len, entries))) or 1
        note = ["Numbers at the points: steps.", *left_out, *map(one_line, table.caption)]
        lines = [line for text in note for line in textwrap.wrap(text, int(14.5 * width))]
        height = 4 + 0.2 * math.ceil(len(entries) / ncols) + 0.14 * len(lines)
        figure = Figure(figsize=(width + 0.2, height), dpi=200)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.06, wspace=0.05)
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for ax, (name, rows) in zip(axes, panels.items()):
            if cost := table.column(name):
                draw_panel(ax, table, quality, cost, rows, styles, labels)
        heading = titled(f"{quality.header} and cost", table, width=int(10 * width))
        axes[0].set_title(heading, loc="left", fontsize=11, weight="bold")
        axes[0].set_ylabel(for_picture(f"{quality.header}, {direction(quality)}", 40))
        handles, shown = axes[0].get_legend_handles_labels()
        figure.legend(handles, shown, loc="outside upper left", ncols=ncols, frameon=False, columnspacing=1.6)
        figure.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=8, color=GREY)
    return figure


def direction(quality: Column) -> str:
    return "higher is better" if quality.goal is max else "lower is better"


def panels_of(table: Table, quality: Column) -> dict[str, list[int]]:
    """The rows that can be drawn against each cost."""
    panels = {}
    for name in AXIS_LABELS:
        cost = table.column(name)
        rows = [row for row, value in cost.finite.items() if value > 0 and row in quality.finite] if cost else []
        if rows:
            panels[name] = rows
    return panels


def with_fewer_lines(
    table: Table, quality: Column, panels: dict[str, list[int]]
) -> tuple[dict[str, list[int]], list[str]]:
    """(The panels with up to MAX_LINES lines: those on a Pareto front, then of the best cells; a note on that)."""
    costs = {name: table.column(name) for name in panels} if quality.goal else {}
    fronts = [front_of(panels[name], quality, cost) for name, cost in costs.items() if cost]
    ranked = sorted(set().union(*panels.values()), key=quality.values.__getitem__, reverse=quality.goal is max)
    labels = dict.fromkeys(table.labels[row] for row in itertools.chain(*fronts, ranked))
    if len(labels) <= MAX_LINES:
        return panels, []
    shown = set(itertools.islice(labels, MAX_LINES))
    note = f"{MAX_LINES} of {len(labels)} lines: those on a Pareto front, then the best."
    return {name: [row for row in rows if table.labels[row] in shown] for name, rows in panels.items()}, [note]


def draw_panel(
    ax: Axes,
    table: Table,
    quality: Column,
    cost: Column,
    rows: Sequence[int],
    styles: Mapping[str, LineStyle],
    labels: Mapping[str, str],
) -> None:
    """styles, labels: of each line, by `table.labels`."""
    front = front_of(rows, quality, cost) if quality.goal is not None else []
    on_front, lines = set(front), lines_of(table, rows, cost)
    scale_axis(ax, "x", [cost.values[row] for row in rows], log_beyond=3)
    scale_axis(ax, "y", [quality.values[row] for row in rows], log_beyond=10)

    def xy(shown: Sequence[int]) -> tuple[list[float], list[float]]:
        return [cost.values[row] for row in shown], [quality.values[row] for row in shown]

    for label, style in styles.items():
        line = lines.get(label, [])
        ax.plot(
            *xy(line),
            color=style.color,
            marker=style.marker,
            linestyle=style.linestyle,
            label=labels[label],
            linewidth=1.7,
            markersize=6,
            markerfacecolor="white",
            zorder=3,
        )
        ax.plot(
            *xy([row for row in line if row in on_front]), style.marker, color=style.color, markersize=7.5, zorder=4
        )
    if len(front) > 1:
        # The best quality for each budget: a staircase, since nothing was measured between the points.
        x, y = xy(front)
        x, y = [*x, ax.get_xlim()[1]], [*y, y[-1]]
        ax.plot(x, y, color="#c4c4c4", linewidth=1.2, drawstyle="steps-post", zorder=2, label=FRONT)
    points = {row: (cost.values[row], quality.values[row]) for row in dict.fromkeys([*front, *rows])}
    label_steps(ax, table, points, on_front, styles)
    ax.set_xlabel(AXIS_LABELS[cost.name])


def lines_of(table: Table, rows: Sequence[int], cost: Column) -> dict[str, list[int]]:
    """The rows of each line, cheapest first, by their label."""
    lines: dict[str, list[int]] = {}
    for row in sorted(rows, key=cost.values.__getitem__):
        lines.setdefault(table.labels[row], []).append(row)
    return lines


def label_steps(
    ax: Axes,
    table: Table,
    points: Mapping[int, tuple[float, float]],
    front: Collection[int],
    styles: Mapping[str, LineStyle],
) -> None:
    """Write the number of steps beside points, where there is room; the front's points come first."""
    from matplotlib.patheffects import withStroke

    placed: list[tuple[float, float]] = []
    for row, point in points.items():
        steps = table.steps[row]
        if len(points) > MAX_LABELS and row not in front:
            continue
        side = -1 if row in front else 1
        x, y = ax.transData.transform(point) / ax.figure.dpi * 72 + 5 * side  # in points
        if not is_finite(steps) or any(abs(x - u) < 14 and abs(y - v) < 8 for u, v in placed):
            continue
        placed.append((x, y))
        ax.annotate(
            f"{steps:g}",
            point,
            xytext=(5 * side, 5 * side),
            textcoords="offset points",
            ha="right" if side < 0 else "left",
            va="top" if side < 0 else "bottom",
            fontsize=8,
            color=styles[table.labels[row]].color,
            path_effects=[withStroke(linewidth=2.2, foreground="white")],
            zorder=5,
        )
