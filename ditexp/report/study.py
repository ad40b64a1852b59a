"""Published numbers beside those measured here: reproduced, not reproduced, or why it can't be told."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from ditexp.report import seeds
from ditexp.report.columns import COSTS, METRICS, Column, is_finite, plain, protocol_of
from ditexp.report.published import RECORDED, Published, Row
from ditexp.report.table import Table

HEADERS = {name: header for name, (header, _) in (COSTS | METRICS).items()}
UNVERIFIED = "†"


@dataclass(frozen=True)
class Outcome:
    """A published row, the cells that are its own (equal but for their seed), and what they say of it.

    here, spread, difference: by metric. verdict: reproduced, not reproduced, not comparable or not run; why: of the
    last two.
    """

    row: Row
    verdict: str
    why: str = ""
    cells: list[dict] = field(default_factory=list)
    here: dict[str, float] = field(default_factory=dict)
    spread: dict[str, float] = field(default_factory=dict)
    difference: dict[str, float] = field(default_factory=dict)


def compare(published: Published, results: Sequence[dict]) -> list[Outcome]:
    """What the results, newest first, say of each published row."""
    base = None
    if published.relative_to is not None:
        row = next(row for row in published.rows if row.name == published.relative_to)
        base, _ = measured(chosen(row, results)[0], row.numbers)
    return [judge(row, results, base) for row in published.rows]


def judge(row: Row, results: Sequence[dict], base: dict[str, float] | None) -> Outcome:
    cells, failed = chosen(row, results)
    if not cells:
        needed = f"needs {', '.join(row.needs)}" if row.needs else "no cell has these settings"
        return Outcome(row, "not run", f"its cell is {failed['status']}: {failed['error']}" if failed else needed)
    here, spread = measured(cells, row.numbers)
    if base is not None:
        if missing := [name for name in here if not base.get(name)]:
            return Outcome(row, "not run", f"the row it is relative to has no {', '.join(missing)}", cells)
        here = {name: value / base[name] for name, value in here.items()}
        spread = {name: value / base[name] for name, value in spread.items()}
    difference = {name: value - row.numbers[name] for name, value in here.items()}
    obstacles = [
        *differing(row, cells[0]),
        *(f"{HEADERS[name]} was not measured" for name in row.numbers if name not in here),
    ]
    # Beyond by more than what floats make of a decimal: 0.81 is within 0.01 of 0.8.
    beyond = [
        name
        for name, gap in difference.items()
        if not abs(gap) <= row.tolerance[name].of(row.numbers[name]) + 1e-9 * abs(row.numbers[name])
    ]
    verdict = "not comparable" if obstacles else "not reproduced" if beyond else "reproduced"
    why = "; ".join(obstacles) if obstacles else ", ".join(HEADERS[name] for name in beyond)
    return Outcome(row, verdict, why, cells, here, spread, difference)


def chosen(row: Row, results: Sequence[dict]) -> tuple[list[dict], dict | None]:
    """The row's cells, which differ in nothing but their seed: those with the fewest differing facts, then the newest.

    Without any, one that failed, if there is one.
    """
    names = [row.checkpoint] if isinstance(row.checkpoint, str) else row.checkpoint
    groups: dict[str, dict[int, dict]] = {}
    failed = None
    for result in results:
        settings = result["settings"]
        if names and Path(str(settings.get("model.checkpoint"))).name not in names:
            continue
        if any(plain(settings.get(name)) != plain(value) for name, value in row.settings.items()):
            continue
        if result["status"] == "done":
            rest = {name: value for name, value in settings.items() if name != "seed"}
            key = json.dumps([rest, protocol_of(result)], sort_keys=True)
            groups.setdefault(key, {}).setdefault(settings.get("seed"), result)
        else:
            failed = failed or result
    if not groups:
        return [], failed
    candidates = [list(cells.values()) for cells in groups.values()]
    return min(candidates, key=lambda cells: len(differing(row, cells[0]))), None


def differing(row: Row, result: dict) -> list[str]:
    """The facts in which a cell departs from what was published, in words."""
    found = []
    for name, published in row.protocol.items():
        here = RECORDED[name](result) if name in RECORDED else result["settings"].get(name)
        choices = published if isinstance(published, list) else [published]
        if plain(here) not in map(plain, choices):
            found.append(f"{name} {plain(here)}, not {' or '.join(map(plain, choices))}")
    return found


def measured(cells: list[dict], names: Iterable[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Means over the cells, and standard deviations of one cell's value."""
    here, spread = {}, {}
    for name in names:
        values = [cell["cost" if name in COSTS else "metrics"].get(name) for cell in cells]
        if not values or not all(map(is_finite, values)):
            continue
        here[name] = fmean(values)
        if name not in COSTS and is_finite(deviation := seeds.spread(cells, name)):
            spread[name] = deviation
    return here, spread


def study_table(published: Published, outcomes: Sequence[Outcome]) -> Table:
    """A row for each published one: what was published, here and the difference of each metric; verdicts; footnotes."""
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
    """What was published of a metric, with as many decimals as there; here and the difference, if it was measured."""
    published = [outcome.row.numbers.get(name) for outcome in outcomes]
    decimals = max(len(repr(value).partition(".")[2].removesuffix("0")) for value in published if value is not None)

    def column(part: str, values: Iterable, **more: tuple) -> Column:
        return Column(f"{name}/{part}", f"{header} {part}", "metric", tuple(values), decimals=decimals, **more)

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
    missing = dict.fromkeys(need for o in outcomes if o.verdict == "not run" and not o.cells for need in o.row.needs)
    lines += [f"Needs {need}: {published.needs[need]}." for need in missing]
    lines += [f"{row.name}: {row.note}." for row in rows if row.note]
    return lines
