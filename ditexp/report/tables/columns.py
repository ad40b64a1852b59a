"""The columns of a table of results: settings that differ between rows, costs, metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ditexp.report.tables.column import Column, is_finite, plain
from ditexp.report.tables.comparability import comparable_key, marks_by_key
from ditexp.report.tables.names import COSTS, METRICS, metric_label
from ditexp.report.tables.rows import Row
from ditexp.report.tables.significance import worse_than_best

Metric = tuple[str, str]  # (feature network, metric)


def setting_columns(rows: Sequence[Row]) -> list[Column]:
    """The solver, then each setting that tells rows apart, without the number of steps."""
    settings = [{"num_samples": row.first.requested_samples, **row.settings} for row in rows]
    names = dict.fromkeys(name for setting in settings for name in setting if name not in ("solver", "steps"))
    varied = [name for name in names if varies(name, settings)]
    return [
        Column(name, name, "setting", tuple(setting.get(name) for setting in settings)) for name in ("solver", *varied)
    ]


def varies(name: str, settings: Sequence[dict]) -> bool:
    """Whether a setting tells rows apart; a component's own setting, whether it does so among rows with that component.

    For example, solver.order is not shown if each solver has one order only.
    """
    values: dict[str | None, set[str]] = {}
    for setting in settings:
        group = setting.get(name.partition(".")[0]) if "." in name else None
        values.setdefault(group, set()).add(plain(setting.get(name)))
    return any(len(found) > 1 for found in values.values())


def cost_columns(rows: Sequence[Row]) -> list[Column]:
    seeds = tuple(len(row.members) for row in rows)
    columns = [Column("seeds", "seeds", "cost", seeds)] if max(seeds) > 1 else []
    for name, (header, goal) in COSTS.items():
        values = tuple(row.costs.get(name) for row in rows)
        if name == "steps":  # a failed cell has no cost; its setting is shown
            values = tuple(row.costs.get(name) if row.is_done else row.settings.get(name) for row in rows)
        if name == "steps" or any(value is not None for value in values):
            columns.append(Column(name, header, "cost", values, goal))
    return columns


def metric_columns(rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Column]:
    """A column for each metric of each feature network; the first is followed by the best of each row's seeds."""
    columns, marks = [], marks_by_key(rows)
    for number, metric in enumerate(metrics):
        column = metric_column(rows, metric, marks)
        columns.append(column)
        goal = metric_label(*metric).goal
        if number == 0 and goal and any(row.extremes for row in rows):
            columns.append(best_seed_column(rows, column, is_high_better=goal is max))
    return columns


def metric_column(rows: Sequence[Row], metric: Metric, marks: dict[str, str]) -> Column:
    """No value is the best if the rows were measured in different ways. marks: by `comparable_key`."""
    network, name = metric
    header, goal = metric_label(network, name)
    values = tuple(value_of(row, metric) for row in rows)
    keys = [None if value is None else comparable_key(row.first) for row, value in zip(rows, values)]
    is_comparable = len({*keys} - {None}) == 1
    spread = tuple(None if value is None else row.spread.get(name) for row, value in zip(rows, values))
    column = Column(
        f"{network}/{name}",
        header,
        "metric",
        values,
        goal if is_comparable else None,
        spread if any(value is not None for value in spread) else (),
        marks=() if is_comparable else tuple("" if key is None else marks[key] for key in keys),
    )
    return with_ties(column, rows)


def best_seed_column(rows: Sequence[Row], column: Column, *, is_high_better: bool) -> Column:
    extremes = [None if value is None else row.extremes.get(column.metric) for row, value in zip(rows, column.values)]
    best = tuple(found[is_high_better] if found else None for found in extremes)
    return Column(f"{column.name}_best_seed", f"{column.header}, best seed", "metric", best)


def with_ties(column: Column, rows: Sequence[Row]) -> Column:
    """The column with the rows that are tied with the best, and those for which that is unknown."""
    if not column.best:
        return column
    measured = list(column.finite)
    worse = worse_than_best([rows[row] for row in measured], measured.index(min(column.best)), column.metric)
    others = [(row, found) for row, found in zip(measured, worse) if row not in column.best]
    ties, unknown = (frozenset(row for row, found in others if found is each) for each in (False, None))
    return dataclasses.replace(column, ties=ties, unknown=unknown)


def value_of(row: Row, metric: Metric) -> float | None:
    network, name = metric
    return row.metrics.get(name) if row.is_done and row.first.network == network else None


def rank(row: Row, metrics: Sequence[Metric]) -> tuple[int, float]:
    """A key to sort by: the first metric, best first; then rows without a number, then failed ones."""
    if not row.is_done:
        return (2, 0.0)
    value = value_of(row, metrics[0]) if metrics else None
    if not is_finite(value):
        return (1, 0.0)
    name = metrics[0][1]
    return (0, -value if name in METRICS and METRICS[name].goal is max else value)
