"""The Pareto front of quality and cost."""

from __future__ import annotations

from collections.abc import Iterable

from ditexp.report.tables.column import Column


def pareto_front(points: dict[int, tuple[float, float]]) -> list[int]:
    """The keys whose (cost, error) no other point beats in both, cheapest first."""
    front: list[int] = []
    for key in sorted(points, key=points.__getitem__):
        if not front or points[key][1] < points[front[-1]][1]:
            front.append(key)
    return front


def front_of(rows: Iterable[int], quality: Column, cost: Column) -> list[int]:
    """The rows of a table that no other row beats in both cost and quality, cheapest first."""
    sign = -1 if quality.goal is max else 1
    return pareto_front({row: (cost.values[row], sign * quality.values[row]) for row in rows})
