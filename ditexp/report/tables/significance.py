"""Whether two rows differ by more than chance."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from ditexp.report.tables.rows import Row
from ditexp.result import Result

CONFIDENCE = 0.95  # for all comparisons of a column together


class Difference(NamedTuple):
    """Of two rows' values. error: its standard error. freedom: the degrees of freedom of this error."""

    value: float
    error: float
    freedom: float

    def p_value(self, sign: float) -> float:
        """Two-sided, of no difference; 1 if the difference does not have this sign."""
        from scipy.special import stdtr

        if not self.value * sign > 0:
            return 1.0
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error)) if self.error else 0.0


def difference(first: Row, second: Row, name: str) -> Difference | None:
    """A metric of the first row minus that of the second; None if its error is unknown.

    Samples of two cells start from the same noise, so their scores are correlated. The error is therefore estimated
    from the differences between matching halves (see `ditexp.evaluate.uncertainty.resampled`) or, if halves are
    missing, between matching seeds.
    """
    ours, theirs = by_seed(first), by_seed(second)
    if all(name in member.deviations for member in (*ours.values(), *theirs.values())):
        error, freedom = error_from_halves(ours, theirs, name)
        return Difference(first.metrics[name] - second.metrics[name], error, freedom)
    shared = [seed for seed in ours if seed in theirs]
    if len(shared) < 2:
        return None
    found = [ours[seed].metrics[name] - theirs[seed].metrics[name] for seed in shared]
    return Difference(fmean(found), stdev(found) / len(found) ** 0.5, len(found) - 1)


def by_seed(row: Row) -> dict[object, Result]:
    return {member.settings.get("seed"): member for member in row.members}


def error_from_halves(ours: dict[object, Result], theirs: dict[object, Result], name: str) -> tuple[float, float]:
    """(standard error of the difference of two means over seeds, degrees of freedom by Welch and Satterthwaite)."""
    parts = []  # (variance, degrees of freedom) of each seed: seeds are independent
    for seed in ours | theirs:
        weights = ((ours, 1 / len(ours)), (theirs, -1 / len(theirs)))
        found = [(weight, row[seed].deviations[name]) for row, weight in weights if seed in row]
        series = [weight * np.array(noise.halves) for weight, noise in found]
        deviations = np.sum([each[: min(map(len, series))] for each in series], axis=0)
        units = min(noise.units for _, noise in found)
        freedom = max(len(deviations) - 2, 1)  # even and odd halves have a mean each
        parts.append((float(np.var(deviations, ddof=1)), 1 / (1 / (units - 1) + 1 / freedom)))
    total = sum(part for part, _ in parts)
    freedom = total**2 / sum(part**2 / freedom for part, freedom in parts) if total else parts[0][1]
    return total**0.5, freedom


def worse_than_best(rows: Sequence[Row], best: int, name: str) -> list[bool | None]:
    """Whether each row is significantly worse in a metric than rows[best], the best one; None where that is unknown.

    All rows that count as worse are truly worse with 95 % confidence. Among K equal cells, chance decides which one is
    the best, so that any of the K (K - 1) / 2 pairs may come to be compared. Each row is therefore tested at
    0.05 / (K (K - 1) / 2), smallest p-value first, and K decreases with each row that is found worse (Holm 1979, A
    simple sequentially rejective multiple test procedure). The rows' values must be finite.
    """
    value = rows[best].metrics[name]
    p_values = {}
    for row, other in enumerate(rows):
        if row != best and (found := difference(other, rows[best], name)):
            p_values[row] = found.p_value(other.metrics[name] - value)
    worse: list[bool | None] = [None] * len(rows)
    worse[best] = False
    remaining, has_stopped = len(rows), False
    for row in sorted(p_values, key=p_values.__getitem__):
        has_stopped = has_stopped or p_values[row] > (1 - CONFIDENCE) / (remaining * (remaining - 1) / 2)
        worse[row], remaining = not has_stopped, remaining - 1
    return worse
