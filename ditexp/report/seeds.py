"""Cells that differ in their seed alone, as one row; and what is known of a row's error."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from statistics import fmean, stdev, variance
from typing import NamedTuple

CONFIDENCE = 0.95  # in all marks of a column together
MANY = 5  # seeds, whose own values then show how much they spread


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
    """Of one set's value: between seeds where there are MANY, else between random halves of each seed's samples.

    A standard deviation of few values says little: of three, half of the time it is off by a third or more. None also
    where all values are the same: a share of 1 of 128 samples is not known without error.
    """
    if len(members) >= MANY:
        values = [member["metrics"][name] for member in members]
        return (stdev(values) or None) if all(map(math.isfinite, values)) else None
    found = [noise_of(member, name) for member in members]
    return (fmean(stdev(noise["halves"]) ** 2 for noise in found) ** 0.5 or None) if all(found) else None


def noise_of(result: dict, name: str) -> dict | None:
    """What `uncertainty.resampled` gives of a metric; None where unknown, or as earlier versions had it."""
    found = result.get("deviations", {}).get(name)
    return found if isinstance(found, dict) else None


class Difference(NamedTuple):
    """Of two rows' values. error: its standard error. freedom: the degrees of freedom of that error."""

    value: float
    error: float
    freedom: float

    def chance(self, sign: float) -> float:
        """Of a difference as large as this, of either sign, by noise alone; 1 if it is not of that sign."""
        from scipy.special import stdtr

        if not self.value * sign > 0:
            return 1.0
        return 2 * float(stdtr(self.freedom, -abs(self.value) / self.error)) if self.error else 0.0


def difference(first: dict, second: dict, name: str) -> Difference | None:
    """A metric of the first row less that of the second; None where nothing is known of its noise.

    The noise is that of the difference, so that what both owe to starting from the same noise cancels: see
    `ditexp.evaluate.uncertainty.resampled`. Where no halves are known, the seeds that both have tell.
    """
    ours, theirs = ({member["settings"].get("seed"): member for member in row["members"]} for row in (first, second))
    if all(noise_of(member, name) for member in (*ours.values(), *theirs.values())):
        parts = []  # of the variance, with their degrees of freedom: seeds are independent of each other
        for seed in ours | theirs:
            weights = ((ours, 1 / len(ours)), (theirs, -1 / len(theirs)))
            found = [(weight, noise_of(row[seed], name)) for row, weight in weights if seed in row]
            series = zip(*([weight * value for value in noise["halves"]] for weight, noise in found))
            deviations = [sum(values) for values in series]
            units = min(noise["units"] for _, noise in found)
            freedom = max(len(deviations) - 2, 1)  # even and odd halves have a mean each
            parts.append((variance(deviations), 1 / (1 / (units - 1) + 1 / freedom)))
        whole = sum(part for part, _ in parts)
        # Welch and Satterthwaite's.
        freedom = whole**2 / sum(part**2 / freedom for part, freedom in parts) if whole else parts[0][1]
        return Difference(first["metrics"][name] - second["metrics"][name], whole**0.5, freedom)
    shared = [seed for seed in ours if seed in theirs]
    if len(shared) < 2:
        return None
    found = [ours[seed]["metrics"][name] - theirs[seed]["metrics"][name] for seed in shared]
    return Difference(fmean(found), stdev(found) / len(found) ** 0.5, len(found) - 1)


def compared_with_best(rows: Sequence[dict], best: int, name: str) -> list[bool | None]:
    """Whether each row is worse in a metric than rows[best], whose value is the best; None where that is unknown.

    With 95 % confidence every one of them that counts as worse is so in truth: among K cells that are equal, the best
    is up to chance, and so is any of the K (K - 1) / 2 pairs that may come to be compared. Hence each is compared at
    0.05 / (K (K - 1) / 2), the least probable first, and each that is found worse leaves one cell less among which the
    best was chosen (Holm 1979, A simple sequentially rejective multiple test procedure). The rows' values are finite.
    """
    value = rows[best]["metrics"][name]
    chances = {}
    for row, other in enumerate(rows):
        if row != best and (found := difference(other, rows[best], name)):
            chances[row] = found.chance(other["metrics"][name] - value)
    worse: list[bool | None] = [None] * len(rows)
    worse[best] = False
    left, stopped = len(rows), False
    for row in sorted(chances, key=chances.get):
        stopped = stopped or chances[row] > (1 - CONFIDENCE) / (left * (left - 1) / 2)
        worse[row], left = not stopped, left - 1
    return worse
