"""Advice: the best cell overall and within each budget, and how certain that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ditexp.report.pareto import front_of
from ditexp.report.tables.column import Column
from ditexp.report.tables.names import Goal
from ditexp.report.tables.significance import difference, worse_than_best
from ditexp.report.tables.table import Table

MAX_CHEAPER = 2  # cheaper cells of the Pareto front that are named
UNITS = {"forwards": "forwards", "seconds_per_image": "s/image"}


@dataclass(frozen=True)
class Advice:
    """On which cell to use. best: names it. comparison: with the others; may be empty. cheaper: names cheaper cells."""

    best: str
    comparison: str = ""
    cheaper: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All in a sentence or two."""
        text = f"{'; '.join(filter(None, (self.best, self.comparison)))}."
        return f"{text} Cheaper: {'; '.join(self.cheaper)}." if self.cheaper else text

    @property
    def lines(self) -> list[str]:
        return [self.best, *filter(None, [self.comparison]), *(f"cheaper: {each}" for each in self.cheaper)]


def recommend(table: Table, budgets: Mapping[str, float | None]) -> list[Advice]:
    """Advice on the best cell overall, then for each budget.

    budgets: by the name of a cost, the maximum cost of an image. Empty if fewer than two cells have the table's first
    metric, or if their values are not comparable.
    """
    quality = next((column for column in table.columns if column.kind == "metric"), None)
    if quality is None or quality.goal is None or not quality.best:
        return []
    limits = [("forwards", None), *((name, limit) for name, limit in budgets.items() if limit is not None)]
    found = []
    for name, limit in limits:
        if cost := table.column(name):
            found.append(Adviser(table, quality, quality.goal, cost).best_within(limit))
    return [advice for advice in found if advice]


@dataclass(frozen=True)
class Adviser:
    """Compares the rows of a table by one metric and one cost. goal: the metric's, min or max."""

    table: Table
    quality: Column
    goal: Goal
    cost: Column

    def best_within(self, limit: float | None) -> Advice | None:
        """limit: the maximum cost; None for any. None if no row has both numbers."""
        measured = [row for row in self.quality.finite if row in self.cost.finite]
        if not measured:
            return None
        costs = self.cost.finite
        within = [row for row in measured if limit is None or costs[row] <= limit]
        budget = "Best of all cells" if limit is None else f"Best within {limit:g} {UNITS[self.cost.name]}"
        if not within:
            minimum = min(costs[row] for row in measured)
            return Advice(f"{budget}: no cell is that cheap; the cheapest needs {minimum:.4g}")
        best = self.best_of(within)
        text = f"{budget}: {self.describe(best)}"
        if len(within) == 1:
            return Advice(f"{text}, the only one")
        chosen, comparison = self.compare(best, within)
        cheaper = [row for row in reversed(self.front(within)) if costs[row] < costs[chosen]][:MAX_CHEAPER]
        gives = tuple(f"{self.describe(row)}, worse by {self.gap(row, best)}" for row in cheaper)
        return Advice(text, comparison, gives)

    def compare(self, best: int, within: Sequence[int]) -> tuple[int, str]:
        """(The row to use, a text that compares the best row with the others): the cheapest that is as good."""
        costs = self.cost.finite
        rows = [self.table.rows[row] for row in within]
        worse = dict(zip(within, worse_than_best(rows, within.index(best), self.quality.metric)))
        tied = sorted((row for row in within if row != best and worse[row] is False), key=costs.__getitem__)
        if not tied:
            rival = self.best_of([row for row in within if row != best])
            verdict = "is significant" if worse[rival] else "may be noise: more resamples or seeds would show"
            return best, f"ahead of the next, {self.describe(rival)}, by {self.gap(rival, best)}, which {verdict}"
        unbeaten = {self.point(row) for row in self.front(within)}
        chosen = next((row for row in tied if self.point(row) in unbeaten), best)
        text = f"{len(tied)} other cell{' is' if len(tied) == 1 else 's are'} statistically tied"
        if costs[chosen] < costs[best]:
            which = "the cheapest" if costs[tied[0]] == costs[chosen] else "the cheapest on the Pareto front"
            return chosen, f"{text}; {which} is {self.describe(chosen)}"
        if costs[tied[0]] < costs[best]:
            return best, f"{text}, but the cheaper ones are not on the Pareto front"
        return best, f"{text}, none of them cheaper"

    def best_of(self, rows: Sequence[int]) -> int:
        """The best row; of equally good ones the cheapest."""
        return self.goal(sorted(rows, key=self.cost.finite.__getitem__), key=self.quality.finite.__getitem__)

    def front(self, rows: Sequence[int]) -> list[int]:
        return front_of(rows, self.quality, self.cost)

    def point(self, row: int) -> tuple[float, float]:
        return self.cost.finite[row], self.quality.finite[row]

    def gap(self, row: int, best: int) -> str:
        """How much worse a row is than the best, ± standard error."""
        found = difference(self.table.rows[row], self.table.rows[best], self.quality.metric)
        size = f"{abs(self.quality.finite[row] - self.quality.finite[best]):.3g}"
        return f"{size} ± ?" if found is None else f"{size} ± {found.error:.2g}"

    def describe(self, row: int) -> str:
        value = self.quality.texts[row].removesuffix(self.quality.mark(row))
        cost = f"{self.cost.finite[row]:.4g} {UNITS[self.cost.name]}"
        return f"{self.table.name(row)} ({self.quality.header} {value}, {cost})"
