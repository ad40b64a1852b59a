"""A column of a table: its values, and how they look."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeGuard

from ditexp.report.tables.names import Goal
from ditexp.terminal.escape import one_line

MISSING = "–"
TIE, UNKNOWN = " ≈", " ?"
MAX_DECIMALS = 6


@dataclass(frozen=True)
class Column:
    """A value for each row; None where a row has none.

    name: for programs: a setting or a cost by its own name, a metric as `<feature network>/<metric>`. header: for
    readers. goal: min or max, if one of the values is the best. spread: the standard deviation of each value, None
    where it is unknown; or empty. ties: rows that are statistically tied with the best. unknown: rows for which that
    is unknown. marks: a mark after each value, explained in the caption; or empty. decimals: of every value; None for
    as many as the smallest value needs.
    """

    name: str
    header: str
    kind: Literal["setting", "cost", "metric", "error"]
    values: tuple[Any, ...]
    goal: Goal | None = None
    spread: tuple[float | None, ...] = ()
    ties: frozenset[int] = frozenset()
    unknown: frozenset[int] = frozenset()
    marks: tuple[str, ...] = ()
    decimals: int | None = None

    @property
    def is_number(self) -> bool:
        present = [value for value in self.values if value is not None]
        return all(isinstance(value, int | float) and not isinstance(value, bool) for value in present)

    @property
    def metric(self) -> str:
        """A metric's own name, without the feature network's."""
        return self.name.rpartition("/")[2]

    @cached_property
    def finite(self) -> dict[int, float]:
        """The finite numbers, by row."""
        return {row: value for row, value in enumerate(self.values) if is_finite(value)}

    @cached_property
    def best(self) -> set[int]:
        """The rows that have the best value; empty if there is no best, or nothing to compare."""
        if self.goal is None or len(self.finite) < 2:
            return set()
        best = self.goal(self.finite.values())
        return {row for row, value in self.finite.items() if value == best}

    def mark(self, row: int) -> str:
        """≈ for a row that is tied with the best, ? where that is unknown."""
        return TIE if row in self.ties else UNKNOWN if row in self.unknown else ""

    @property
    def worse(self) -> set[int]:
        """The rows that are significantly worse than the best."""
        return self.finite.keys() - self.best - self.ties - self.unknown if self.best else set()

    @cached_property
    def texts(self) -> list[str]:
        """Each value as text, with its spread and marks."""
        if self.kind in ("setting", "error"):
            return ["" if value is None and self.kind == "error" else plain(value) for value in self.values]
        decimals = self.shared_decimals() if self.decimals is None else self.decimals
        texts = [MISSING if value is None else f"{value:.{decimals}f}" for value in self.values]
        spreads = [f" ± {value:.{decimals}f}" if is_finite(value) else "" for value in self.spread]
        ties = [self.mark(row) for row in range(len(texts))]
        for more in filter(None, (spreads, ties, self.marks)):
            texts = [text + addition for text, addition in zip(texts, more)]
        return texts

    def shared_decimals(self) -> int:
        """As many as show three digits of the smallest value and two of the largest spread; the same for all rows."""
        sizes = [abs(value) for value in self.finite.values() if value]
        is_whole = not sizes or (self.kind == "cost" and all(size == int(size) for size in sizes))
        decimals = 0 if is_whole else min(max(2 - math.floor(math.log10(min(sizes))), 0), MAX_DECIMALS)
        if spreads := [value for value in self.spread if is_finite(value) and value]:
            decimals = max(decimals, min(1 - math.floor(math.log10(max(spreads))), MAX_DECIMALS))
        return decimals


def is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def plain(value: object) -> str:
    """A setting as one line of text, as Hydra would read it."""
    if value is None:
        return MISSING
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, float):
        return short if float(short := f"{value:g}") == value else repr(value)
    return json.dumps(value)
