"""Compare published numbers with those measured here: reproduced, not reproduced, or why that is unknown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

from ditexp.report.studies.published import RECORDED, Published, PublishedRow
from ditexp.report.tables.column import Column, is_finite, plain
from ditexp.report.tables.comparability import comparable_facts
from ditexp.report.tables.names import COSTS, METRICS
from ditexp.report.tables.rows import spread_of_one
from ditexp.report.tables.table import Table
from ditexp.result import Result

HEADERS = {name: label.header for name, label in (COSTS | METRICS).items()}
UNVERIFIED = "†"


@dataclass(frozen=True)
class Outcome:
    """How a published row compares with its cells, which differ only in their seed.

    why: the metrics that differ, or why there is no comparison. here, spread, difference: by metric: the value here,
    its standard deviation, and by how much it is above the published one.
    """

    row: PublishedRow
    verdict: Literal["reproduced", "not reproduced", "not comparable", "not run"]
    why: str = ""
    cells: list[Result] = field(default_factory=list)
    here: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)


def compare(published: Published, results: Sequence[Result]) -> list[Outcome]:
    """An outcome for each published row. results: newest first."""
    base = None
    if published.relative_to is not None:
        row = next(row for row in published.rows if row.name == published.relative_to)
        base, _ = measured(chosen(row, results)[0], row.numbers)
    return [compare_row(row, results, base) for row in published.rows]


def compare_row(row: PublishedRow, results: Sequence[Result], base: dict[str, float] | None) -> Outcome:
    cells, failed = chosen(row, results)
    if not cells:
        needed = f"needs {', '.join(row.needs)}" if row.needs else "no cell has these settings"
        return Outcome(row, "not run", f"its cell is {failed.status}: {failed.error}" if failed else needed)
    here, spread = measured(cells, row.numbers)
    if base is not None:
        if missing := [name for name in here if not base.get(name)]:
            return Outcome(row, "not run", f"the row that it is relative to has no {', '.join(missing)}", cells)
        here = {name: value / base[name] for name, value in here.items()}
        spread = {name: value / base[name] for name, value in spread.items()}
    difference = {name: value - row.numbers[name] for name, value in here.items()}
    unmeasured = [f"{HEADERS[name]} was not measured" for name in row.numbers if name not in here]
    if obstacles := [*differing(row, cells[0]), *unmeasured]:
        return Outcome(row, "not comparable", "; ".join(obstacles), cells, here, spread, difference)
    beyond = [name for name, gap in difference.items() if is_beyond(gap, row, name)]
    why = ", ".join(HEADERS[name] for name in beyond)
    return Outcome(row, "not reproduced" if beyond else "reproduced", why, cells, here, spread, difference)


def is_beyond(gap: float, row: PublishedRow, name: str) -> bool:
    """Whether a difference exceeds its tolerance, up to rounding: 0.81 is within 0.01 of 0.8."""
    published = row.numbers[name]
    return not abs(gap) <= row.tolerance[name].of(published) + 1e-9 * abs(published)


def chosen(row: PublishedRow, results: Sequence[Result]) -> tuple[list[Result], Result | None]:
    """(The row's cells, which differ only in their seed; a cell that failed, if there are no others).

    Of several candidates, those with the fewest differing facts are chosen, then the newest. results: newest first.
    """
    names = [row.checkpoint] if isinstance(row.checkpoint, str) else row.checkpoint
    groups: dict[str, dict[Any, Result]] = {}
    failed: Result | None = None
    for result in results:
        settings = result.settings
        if names and Path(str(settings.get("model.checkpoint"))).name not in names:
            continue
        if any(plain(settings.get(name)) != plain(value) for name, value in row.settings.items()):
            continue
        if result.is_done:
            rest = {name: value for name, value in settings.items() if name != "seed"}
            key = json.dumps([rest, comparable_facts(result)], sort_keys=True)
            groups.setdefault(key, {}).setdefault(settings.get("seed"), result)
        else:
            failed = failed or result
    if not groups:
        return [], failed
    candidates = [list(cells.values()) for cells in groups.values()]
    return min(candidates, key=lambda cells: len(differing(row, cells[0]))), None


def differing(row: PublishedRow, result: Result) -> list[str]:
    """A text for each fact of the published protocol in which a cell differs."""
    found = []
    for name, published in row.protocol.items():
        here = RECORDED[name](result) if name in RECORDED else result.settings.get(name)
        choices = published if isinstance(published, list) else [published]
        if plain(here) not in map(plain, choices):
            found.append(f"{name} {plain(here)}, not {' or '.join(map(plain, choices))}")
    return found


def measured(cells: Sequence[Result], names: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """(Means over the cells, standard deviations of one cell's value), by name; without numbers that are not finite."""
    here, spread = {}, {}
    for name in names:
        values = [value for cell in cells if is_finite(value := number_of(cell, name))]
        if not values or len(values) < len(cells):
            continue
        here[name] = fmean(values)
        if name not in COSTS and is_finite(deviation := spread_of_one(cells, name)):
            spread[name] = deviation
    return here, spread


def number_of(cell: Result, name: str) -> float | None:
    """A cost or a metric."""
    costs = cell.cost.numbers() if cell.cost else {}
    return costs.get(name) if name in COSTS else cell.metrics.get(name)


def study_table(published: Published, outcomes: Sequence[Outcome]) -> Table:
    """A row for each published row, with the published value, the value here and the difference of each metric."""
    rows = [outcome.row for outcome in outcomes]
    names = list(dict.fromkeys(name for row in rows for name in row.numbers))
    columns = [
        Column("row", "", "setting", tuple(row.name for row in rows)),
        Column("source", "source", "setting", tuple(f"{row.source}, {row.where}" for row in rows)),
    ]
    for name in names:
        header = f"{HEADERS[name]} / {published.relative_to}" if published.relative_to else HEADERS[name]
        columns += columns_of(name, header, outcomes)
    verdicts = tuple(f"{o.verdict}: {o.why}" if o.why else o.verdict for o in outcomes)
    columns.append(Column("verdict", "verdict", "setting", verdicts))
    return Table([], columns, footnotes(published, outcomes))


def columns_of(name: str, header: str, outcomes: Sequence[Outcome]) -> list[Column]:
    """The columns of a metric: published and, if it was measured, here and difference; with the published decimals."""
    published = [outcome.row.numbers.get(name) for outcome in outcomes]
    decimals = max(len(repr(value).partition(".")[2].removesuffix("0")) for value in published if value is not None)

    def column(part: str, values: Iterable, spread: tuple = (), marks: tuple = ()) -> Column:
        names = (f"{name}/{part}", f"{header} {part}")
        return Column(*names, "metric", tuple(values), spread=spread, marks=marks, decimals=decimals)

    marks = tuple(UNVERIFIED if name in outcome.row.unverified else "" for outcome in outcomes)
    columns = [column("published", published, marks=marks)]
    if any(name in outcome.here for outcome in outcomes):
        spread = tuple(outcome.spread.get(name) for outcome in outcomes)
        columns += [
            column("here", (outcome.here.get(name) for outcome in outcomes), spread=spread if any(spread) else ()),
            column("difference", (outcome.difference.get(name) for outcome in outcomes)),
        ]
    return columns


def footnotes(published: Published, outcomes: Sequence[Outcome]) -> list[str]:
    counts = Counter(outcome.verdict for outcome in outcomes)
    rows = [outcome.row for outcome in outcomes]
    lines = [f"{published.title}. Of {len(rows)}: {', '.join(f'{n} {verdict}' for verdict, n in counts.items())}."]
    for name, source in published.sources.items():
        about = (source.authors, source.year, source.title, source.url)
        lines.append(f"{name}: {', '.join(str(fact) for fact in about if fact)}. Read: {source.read}.")
    for found in dict.fromkeys(found for row in rows for found in row.unverified.values()):
        lines.append(f"{UNVERIFIED} not read at its source: {found}.")
    same: dict[str, list[str]] = {}
    for row in rows:
        for name in row.numbers:
            tolerance = row.tolerance[name]
            width = f"{tolerance.percent:g} %" if tolerance.within is None else f"{tolerance.within:g}"
            names = same.setdefault(f"reproduced within {width}: {tolerance.because}", [])
            names += [] if HEADERS[name] in names else [HEADERS[name]]
    lines += [f"{', '.join(names)}: {text}." for text, names in same.items()]
    missing = dict.fromkeys(
        need for o in outcomes if o.verdict == "not run" and not o.cells for need in o.row.needs or ()
    )
    for name in missing:
        need = published.needs[name]
        lines.append(f"Needs {name}: {', '.join(filter(None, (need.about, need.size, need.url)))}.")
    lines += [f"{row.name}: {row.note}." for row in rows if row.note]
    return lines
