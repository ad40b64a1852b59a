"""Rows of a table: cells that differ only in their seed share one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from ditexp.files.json_values import encode
from ditexp.result import Result

MANY_SEEDS = 5  # from this many on, the spread is estimated from the seeds' own values


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table: a cell, or all seeds of a cell together.

    members: its results, one per seed. settings: of the first one; its seed names all seeds. costs, metrics: means over
    the seeds, by name; empty unless done. spread: by metric, the standard deviation of one seed's value, None where it
    is unknown. extremes: by metric, the smallest and the largest value; empty for one seed.
    """

    members: list[Result]
    settings: dict[str, Any]
    costs: dict[str, float | None] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float | None] = field(default_factory=dict)
    extremes: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def first(self) -> Result:
        """The member that stands for the others in all that seeds share: status, measurement, pictures."""
        return self.members[0]

    @property
    def is_done(self) -> bool:
        return self.first.is_done


def merge_seeds(results: Sequence[Result]) -> list[Row]:
    """A row for each cell, with all its seeds, in the order of the results."""
    groups: dict[str, list[Result]] = {}
    for result in {result.id: result for result in results}.values():  # an adaptive cell may be there for several steps
        groups.setdefault(key_without_seed(result), []).append(result)
    rows = []
    for members in groups.values():
        members.sort(key=lambda member: member.settings.get("seed", 0))
        seeds = {member.settings.get("seed") for member in members}
        rows += [row_of(members)] if len(seeds) == len(members) else [row_of([member]) for member in members]
    return rows


def key_without_seed(result: Result) -> str:
    if not result.is_done:
        return json.dumps([result.status, result.settings])
    settings = {name: value for name, value in result.settings.items() if name != "seed"}
    facts = [result.num_samples, encode(result.measurement), sorted(result.metrics)]
    return json.dumps([settings, *facts], sort_keys=True)


def row_of(members: list[Result]) -> Row:
    """A row of results that are equal but for their seeds."""
    first = members[0]
    if not first.is_done:
        return Row(members=members, settings=first.settings)
    names = list(first.metrics)
    row = Row(
        members=members,
        settings=first.settings,
        costs=mean_costs(members),
        metrics={name: fmean(values_of(members, name)) for name in names},
        spread={name: spread_of_one(members, name) for name in names},
    )
    if len(members) == 1:
        return replace(row, metrics=first.metrics)
    extremes = {name: (min(values_of(members, name)), max(values_of(members, name))) for name in names}
    seeds = ", ".join(str(member.settings["seed"]) for member in members)
    return replace(row, settings=first.settings | {"seed": seeds}, extremes=extremes)


def values_of(members: Sequence[Result], name: str) -> list[float]:
    return [member.metrics[name] for member in members]


def mean_costs(members: Sequence[Result]) -> dict[str, float | None]:
    costs = [member.cost.numbers() for member in members if member.cost]
    if len(costs) == 1:
        return costs[0]
    return {name: mean([cost[name] for cost in costs]) for name in costs[0]}


def mean(values: Sequence[float | None]) -> float | None:
    """None unless all are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if len(known) == len(values) else None


def spread_of_one(members: Sequence[Result], name: str) -> float | None:
    """The standard deviation of one sample set's value, estimated between seeds or between halves of the samples.

    Between seeds only if there are MANY_SEEDS: an estimate from three values is off by a third or more half of the
    time. None if it is unknown, or if all values are equal: a fraction of 1 of 128 samples is not exact either.
    """
    if len(members) >= MANY_SEEDS:
        values = values_of(members, name)
        return (stdev(values) or None) if all(map(math.isfinite, values)) else None
    known = [member.deviations[name] for member in members if name in member.deviations]
    if len(known) < len(members):
        return None
    return fmean(each.sd**2 for each in known) ** 0.5 or None
