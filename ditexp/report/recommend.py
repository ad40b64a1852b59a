"""What to use, said in a sentence: of the cells that were measured, the best for a budget, and how sure that is."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from ditexp.report.columns import TIE, Column, is_finite
from ditexp.report.seeds import told_apart
from ditexp.report.table import Table

NEAR = 0.1  # of the best value: what many would give up for a lower cost
UNITS = {"forwards": "forwards", "seconds_per_image": "s/image"}


def recommend(table: Table, budgets: Mapping[str, float | None]) -> list[str]:
    """A sentence on the best cell of all, then one for each budget, a most of the cost column of that name.

    Empty where nothing is to be compared: fewer than two cells with the table's first metric, or metrics that were
    taken by different protocols.
    """
    quality = next((column for column in table.columns if column.kind == "metric"), None)
    if quality is None or quality.goal is None or not quality.best:
        return []
    limits = [("forwards", None), *((name, limit) for name, limit in budgets.items() if limit is not None)]
    return [sentence for name, limit in limits if (sentence := best_within(table, quality, name, limit))]


def best_within(table: Table, quality: Column, cost_name: str, limit: float | None) -> str | None:
    cost = table.column(cost_name)
    if cost is None:
        return None
    measured = [row for row, value in enumerate(quality.values) if is_finite(value) and is_finite(cost.values[row])]
    within = [row for row in measured if limit is None or cost.values[row] <= limit]
    budget = "Of all cells" if limit is None else f"At most {limit:g} {UNITS[cost_name]}"
    if not within:
        least = min((cost.values[row] for row in measured), default=None)
        return f"{budget}: no cell is that cheap; the cheapest takes {least:.4g}." if least is not None else None
    best = quality.goal(within, key=lambda row: quality.values[row])
    said = functools.partial(described, table, quality, cost)
    text = f"{budget}: {said(best)}"
    others = [row for row in within if row != best]
    if not others:
        return f"{text}, the only one."
    metric = quality.name.rpartition("/")[2]
    known = {row: told_apart(table.results[row], table.results[best], metric) for row in others}
    tied = [row for row in others if known[row] is False]
    cheapest = min([best, *tied], key=lambda row: cost.values[row])
    if tied:
        text += f"; but {len(tied)} more can't be told from it, "
        text += "none of them cheaper" if cheapest == best else f"the cheapest of them {said(cheapest)}"
    else:
        rival = quality.goal(others, key=lambda row: quality.values[row])
        margin = abs(quality.values[rival] - quality.values[best])
        text += f"; ahead of the next, {said(rival)}, by {margin:.3g}, which "
        text += "is beyond noise" if known[rival] else "may be noise: resamples or seeds would tell"
    near = [row for row in within if abs(quality.values[row] - quality.values[best]) <= NEAR * quality.values[best]]
    thrifty = min([cheapest, *near], key=lambda row: cost.values[row])
    return f"{text}." if thrifty == cheapest else f"{text}. Within {NEAR:.0%} of it, for less: {said(thrifty)}."


def described(table: Table, quality: Column, cost: Column, row: int) -> str:
    steps = table.column("steps").values[row]
    name = f"{table.label(row)} with {steps:g} steps" if is_finite(steps) else table.label(row)
    value = quality.texts[row].removesuffix(TIE)
    return f"{name} ({quality.header} {value}, {cost.values[row]:.4g} {UNITS[cost.name]})"
