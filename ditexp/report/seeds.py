"""Cells that differ in their seed alone, as one row; and what is known of a row's error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from statistics import fmean, stdev

CONFIDENCE = 0.95


def merge_seeds(results: Sequence[dict]) -> list[dict]:
    """A row for each cell, but one for all seeds of a cell, in the order of the first.

    A row is a result: of several seeds the first one's, with means for its costs and metrics, and `extremes`, by
    metric the least and the greatest value. Every row has `members`, the results that it stands for, and `spread`, by
    metric the standard deviation of one seed's value, None where nothing is known of it.
    """
    groups: dict[str, list[dict]] = {}
    for result in {result["id"]: result for result in results}.values():  # steps of an adaptive solver make one cell
        groups.setdefault(key_without_seed(result), []).append(result)
    rows = []
    for members in groups.values():
        members.sort(key=lambda member: member["settings"].get("seed", 0))
        seeds = {member["settings"].get("seed") for member in members}
        rows += [row_of(members)] if len(seeds) == len(members) else [row_of([member]) for member in members]
    return rows


def key_without_seed(result: dict) -> str:
    settings = {name: value for name, value in result["settings"].items() if name != "seed"}
    if result["status"] != "done":
        return json.dumps([result["status"], result["settings"]])
    facts = [result["num_samples"], result.get("protocol"), sorted(result["metrics"])]
    return json.dumps([settings, *facts], sort_keys=True)


def row_of(members: list[dict]) -> dict:
    first = members[0]
    names = first.get("metrics", ())
    row = first | {"members": members, "spread": {name: spread(members, name) for name in names}}
    if len(members) == 1 or first["status"] != "done":
        return row
    costs = {name: [member["cost"].get(name) for member in members] for name in first["cost"]}
    values = {name: [member["metrics"][name] for member in members] for name in names}
    return row | {
        "settings": first["settings"] | {"seed": ", ".join(str(member["settings"]["seed"]) for member in members)},
        "cost": {name: mean(found) for name, found in costs.items()},
        "metrics": {name: fmean(found) for name, found in values.items()},
        "extremes": {name: (min(found), max(found)) for name, found in values.items()},
    }


def mean(values: list) -> float | None:
    """Of numbers; of what else a cost has, None."""
    return fmean(values) if all(isinstance(value, int | float) for value in values) else None


def spread(members: list[dict], name: str) -> float | None:
    """Between seeds; of a single one, between random halves of its samples."""
    values = [member["metrics"][name] for member in members]
    found = values if len(values) > 1 else members[0].get("deviations", {}).get(name, ())
    return stdev(found) if len(found) > 1 else None


def told_apart(first: dict, second: dict, name: str) -> bool | None:
    """Whether two rows differ by more than noise in a metric, with 95 % confidence; None where that can't be told.

    The noise is that of the difference, so that what both owe to starting from the same noise cancels: see
    `ditexp.uncertainty.deviations`. Where none are known, the seeds that both have tell.
    """
    difference = first["metrics"][name] - second["metrics"][name]
    both = [deviations(row, name) for row in (first, second)]
    if len(both[0]) == len(both[1]) > 1:
        error, count = stdev(a - b for a, b in zip(*both)), len(both[0])
    else:
        by_seed = [{m["settings"].get("seed"): m["metrics"][name] for m in row["members"]} for row in (first, second)]
        shared = by_seed[0].keys() & by_seed[1].keys()
        if len(shared) < 2:
            return None
        difference = fmean(by_seed[0][seed] - by_seed[1][seed] for seed in shared)
        error, count = stdev(by_seed[0][seed] - by_seed[1][seed] for seed in shared) / len(shared) ** 0.5, len(shared)
    return abs(difference) > error * quantile(count - 1)


def deviations(row: dict, name: str) -> list[float]:
    """Of the row's mean: seeds deviate independently, so that their means show what is left of the noise."""
    found = [member.get("deviations", {}).get(name, ()) for member in row["members"]]
    return [fmean(values) for values in zip(*found, strict=True)] if len({len(f) for f in found}) == 1 else []


def quantile(degrees_of_freedom: int) -> float:
    """Of Student's t, two-sided."""
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, (1 + CONFIDENCE) / 2))
