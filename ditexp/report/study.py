"""Published numbers beside those measured here: which are reproduced, which are not, and where that can't be told, why.

experiments/<study>/published.yaml holds them, docs/studies.md says how.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from ditexp.report.columns import COSTS, METRICS, Column, feature_of, is_finite, plain, protocol_of
from ditexp.report.table import Table

# The names of result["settings"]: choices of groups, whose own settings are <group>.<setting>, and plain values.
GROUPS = ("model", "solver", "schedule", "guidance", "condition", "task", "data", "feature", "reference", "protocol")
VALUES = ("steps", "num_samples", "batch_size", "seed", "precision", "compile")

# What a result was judged by; the facts of any other name are settings.
RECORDED: dict[str, Callable[[dict], Any]] = {
    "protocol": lambda result: protocol_of(result).get("protocol"),
    "feature": feature_of,
    "reference": lambda result: ((result.get("protocol") or {}).get("reference") or {}).get("name"),
    "num_samples": lambda result: result.get("num_samples"),
}
HEADERS = {name: header for name, (header, _) in (COSTS | METRICS).items()}
UNVERIFIED = "†"


@dataclass(frozen=True)
class Source:
    """read: what was read of it when its numbers were written down: its own text, or who quotes it."""

    title: str
    read: str
    authors: str | None = None
    year: int | None = None
    url: str | None = None


@dataclass(frozen=True)
class Tolerance:
    """How far from the published number is the same: within so much, or so many percent of it; because: why so far."""

    because: str
    within: float | None = None
    percent: float | None = None

    def of(self, published: float) -> float:
        return self.within if self.percent is None else abs(published) * self.percent / 100


@dataclass(frozen=True)
class Row:
    """One row of a published table.

    source, where: a name among the study's sources, and the table or page there. settings: what a cell of this row has,
    exactly, by the names of result["settings"]; checkpoint: the name of its model's file, or several. protocol: what
    must hold besides for its numbers to be comparable; of a list, any. numbers: by the names of metrics and costs.
    unverified: those that weren't read at the source, and where they were found. needs: what it takes to run it, by
    name; without it, all that the study needs.
    """

    name: str
    source: str
    where: str
    settings: dict
    numbers: dict
    checkpoint: str | list | None = None
    protocol: dict = field(default_factory=dict)
    tolerance: dict = field(default_factory=dict)
    unverified: dict = field(default_factory=dict)
    needs: list | None = None
    note: str | None = None


@dataclass(frozen=True)
class Published:
    """A study's published numbers. protocol and tolerance are of all rows that have none of their own by that name.

    needs: by name, what is there neither in ditexp nor with it. relative_to: the row of whose numbers all numbers are
    multiples.
    """

    title: str
    sources: dict
    rows: list
    protocol: dict = field(default_factory=dict)
    tolerance: dict = field(default_factory=dict)
    needs: dict = field(default_factory=dict)
    relative_to: str | None = None


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


def load(path: Path | str) -> Published:
    """The published numbers of a study. Raises ValueError, one line, for whatever is missing, unknown or mistyped."""
    try:
        node = OmegaConf.to_container(OmegaConf.load(path))
    except (OSError, YAMLError) as error:
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    try:
        return parse(node)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse(node: Any) -> Published:
    study = made(Published, node, "the file")
    sources = {name: made(Source, source, f"sources.{name}") for name, source in study.sources.items()}
    rows = []
    for number, given in enumerate(study.rows, 1):
        row = made(Row, given, f"row {number}")
        where = f"row '{row.name}'"
        tolerances = {
            name: made(Tolerance, tolerance, f"{where}, tolerance.{name}")
            for name, tolerance in (study.tolerance | row.tolerance).items()
        }
        needs = list(study.needs) if row.needs is None else row.needs
        row = dataclasses.replace(row, protocol=study.protocol | row.protocol, tolerance=tolerances, needs=needs)
        check_row(row, where)
        one_of(row.source, sources, f"{where}, source")
        for need in needs:
            one_of(need, study.needs, f"{where}, needs")
        rows.append(row)
    if not rows:
        raise ValueError("rows is empty: a study without published numbers has no such file")
    names = Counter(row.name for row in rows)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ValueError(f"row '{twice[0]}' is there {names[twice[0]]} times: give each a name of its own")
    if study.relative_to is not None:
        one_of(study.relative_to, names, "relative_to")
    return dataclasses.replace(study, sources=sources, rows=rows)


def made(cls: type, node: Any, where: str) -> Any:
    """An instance of one of the classes above. Raises ValueError for keys it doesn't have, lacks or has mistyped."""
    known = {part.name: part for part in dataclasses.fields(cls)}
    if not isinstance(node, dict):
        raise ValueError(f"{where} is {node!r}: give {', '.join(known)}")
    for key, value in node.items():
        one_of(key, known, f"{where}, key")
        kinds = {"str": str, "int": int, "float": (int, float), "dict": dict, "list": list, "None": type(None)}
        names = known[key].type.split(" | ")
        if isinstance(value, bool) or not any(isinstance(value, kinds[name]) for name in names):
            raise ValueError(f"{where}, {key} is {value!r}: give a {' or '.join(names)}")
    needed = [name for name, part in known.items() if part.default is part.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if node.get(name) in (None, "")]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    return cls(**node)


def check_row(row: Row, where: str) -> None:
    if not row.numbers:
        raise ValueError(f"{where} has no numbers")
    for name, number in row.numbers.items():
        one_of(name, HEADERS, f"{where}, metric")
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{where}, {name} is {number!r}: give a number")
        if name not in row.tolerance:
            raise ValueError(f"{where}, {name} has no tolerance")
    for name in row.unverified:
        one_of(name, row.numbers, f"{where}, unverified")
    for name, tolerance in row.tolerance.items():
        one_of(name, HEADERS, f"{where}, tolerance")
        given = [value for value in (tolerance.within, tolerance.percent) if value is not None]
        if len(given) != 1 or not given[0] >= 0:
            raise ValueError(f"{where}, tolerance.{name}: give either within or percent, at least 0")
    for part, known in (("settings", ()), ("protocol", RECORDED)):
        for name in getattr(row, part):
            group, dot, _ = name.partition(".")
            if name not in known:
                one_of(group if dot else name, GROUPS if dot else (*GROUPS, *VALUES), f"{where}, {part}")


def one_of(name: Any, known: Sequence[str] | dict, where: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise ValueError(f"{where} '{name}' is unknown{hint}; there are {', '.join(known) or 'none'}")


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
    return min(
        (list(cells.values()) for cells in groups.values()), key=lambda cells: len(differing(row, cells[0]))
    ), None


def differing(row: Row, result: dict) -> list[str]:
    """The facts in which a cell departs from what was published, in words."""
    found = []
    for name, published in row.protocol.items():
        here = RECORDED[name](result) if name in RECORDED else result["settings"].get(name)
        choices = published if isinstance(published, list) else [published]
        if plain(here) not in map(plain, choices):
            found.append(f"{name} {plain(here)}, not {' or '.join(map(plain, choices))}")
    return found


def measured(cells: list[dict], names: Sequence[str]) -> tuple[dict[str, float], dict[str, float]]:
    """Means over the cells, and standard deviations: over seeds, or what one cell has of its own as <metric>_std."""
    here, spread = {}, {}
    for name in names:
        values = [cell["cost" if name in COSTS else "metrics"].get(name) for cell in cells]
        if not values or not all(map(is_finite, values)):
            continue
        here[name] = statistics.fmean(values)
        deviation = statistics.stdev(values) if len(values) > 1 else cells[0]["metrics"].get(f"{name}_std")
        if is_finite(deviation):
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
        columns += columns_of(name, outcomes, relative=published.relative_to)
    verdicts = tuple(f"{o.verdict}: {o.why}" if o.why else o.verdict for o in outcomes)
    columns.append(Column("verdict", "verdict", "setting", verdicts))
    cells = [cell for outcome in outcomes for cell in outcome.cells]
    return Table(cells, columns, footnotes(published, outcomes))


def columns_of(name: str, outcomes: Sequence[Outcome], *, relative: str | None) -> list[Column]:
    header = f"{HEADERS[name]} / {relative}" if relative else HEADERS[name]
    values = [outcome.row.numbers.get(name) for outcome in outcomes]
    decimals = max(len(repr(value).partition(".")[2].removesuffix("0")) for value in values if value is not None)
    marks = [UNVERIFIED if name in outcome.row.unverified else "" for outcome in outcomes]
    parts = {
        "published": (values, (), marks if any(marks) else ()),
        "here": ([o.here.get(name) for o in outcomes], [o.spread.get(name) for o in outcomes], ()),
        "difference": ([o.difference.get(name) for o in outcomes], (), ()),
    }
    kept = ["published", *(part for part in ("here", "difference") if any(map(is_finite, parts[part][0])))]
    columns = []
    for part in kept:
        values, spread, marks = parts[part]
        spread = tuple(spread) if any(map(is_finite, spread)) else ()
        columns.append(
            Column(
                f"{name}/{part}",
                f"{header} {part}",
                "metric",
                tuple(values),
                spread=spread,
                marks=tuple(marks),
                decimals=decimals,
            )
        )
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
