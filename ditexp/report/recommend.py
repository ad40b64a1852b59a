"""What to use, said in a sentence: of the cells that were measured, the best for a budget, and how sure that is."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

from ditexp.report.columns import Column, is_finite
from ditexp.report.plots import pareto_front
from ditexp.report.seeds import compared_with_best, difference
from ditexp.report.table import Table

CHEAPER = 2  # cells of the Pareto front that are named beside the one to take, with what they give up
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
    # Of equally good cells the cheapest.
    best = quality.goal(sorted(within, key=cost.values.__getitem__), key=quality.values.__getitem__)
    said = functools.partial(described, table, quality, cost)
    text = f"{budget}: {said(best)}"
    if len(within) == 1:
        return f"{text}, the only one."
    metric = quality.name.rpartition("/")[2]
    worse = dict(zip(within, compared_with_best([table.results[row] for row in within], within.index(best), metric)))
    tied = sorted((row for row in within if row != best and worse[row] is False), key=cost.values.__getitem__)
    front = front_of(within, quality, cost)
    unbeaten = {(cost.values[row], quality.values[row]) for row in front}
    chosen = next((row for row in tied if (cost.values[row], quality.values[row]) in unbeaten), best)
    if cost.values[chosen] >= cost.values[best]:
        chosen = best
    if tied:
        text += f"; {len(tied)} other cell{' is' if len(tied) == 1 else 's are'} statistically tied"
        if chosen != best:
            passed_over = cost.values[tied[0]] < cost.values[chosen]
            which = "the cheapest that no other beats in cost and quality" if passed_over else "the cheapest"
            text += f"; {which} is {said(chosen)}"
        elif cost.values[tied[0]] < cost.values[best]:
            text += ", but others beat the cheaper ones in cost and quality"
        else:
            text += ", none of them cheaper"
    else:
        rival = quality.goal((row for row in within if row != best), key=quality.values.__getitem__)
        text += f"; ahead of the next, {said(rival)}, by {gap(table, quality, rival, best)}, which "
        text += "is beyond noise" if worse[rival] else "may be noise: resamples or seeds would tell"
    cheaper = [row for row in reversed(front) if cost.values[row] < cost.values[chosen]][:CHEAPER]
    gives = [f"{said(row)}, worse by {gap(table, quality, row, best)}" for row in cheaper]
    return f"{text}. For less: {'; '.join(gives)}." if gives else f"{text}."


def front_of(rows: Sequence[int], quality: Column, cost: Column) -> list[int]:
    """Those that no other one beats in both cost and quality, cheapest first."""
    sign = -1 if quality.goal is max else 1
    return pareto_front({row: (cost.values[row], sign * quality.values[row]) for row in rows})


def gap(table: Table, quality: Column, row: int, best: int) -> str:
    """By how much a row is worse than the best, ± the standard error of that."""
    found = difference(table.results[row], table.results[best], quality.name.rpartition("/")[2])
    size = f"{abs(quality.values[row] - quality.values[best]):.3g}"
    return f"{size} ± ?" if found is None else f"{size} ± {found.error:.2g}"


def described(table: Table, quality: Column, cost: Column, row: int) -> str:
    steps = table.column("steps").values[row]
    name = f"{table.label(row)} with {steps:g} steps" if is_finite(steps) else table.label(row)
    value = quality.texts[row].removesuffix(quality.mark(row))
    return f"{name} ({quality.header} {value}, {cost.values[row]:.4g} {UNITS[cost.name]})"
