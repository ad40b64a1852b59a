"""The published numbers of a study: the file experiments/<study>/published.yaml, read strictly.

docs/studies.md describes the format.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ditexp.files.reading import read_yaml
from ditexp.report.tables.comparability import comparable_facts
from ditexp.report.tables.names import COSTS, METRICS
from ditexp.result import SETTING_GROUPS, SETTING_VALUES, Result
from ditexp.terminal.notices import in_line

# Names in a row's protocol that refer to how a result was measured; all other names refer to its settings.
RECORDED: dict[str, Callable[[Result], Any]] = {
    "protocol": lambda result: comparable_facts(result).get("protocol"),
    "feature": lambda result: result.network,
    "reference": lambda result: reference_name(result),
    "num_samples": lambda result: result.num_samples,
}
NUMBERS = (*COSTS, *METRICS)

# What the value of a key may be, by the annotated type in the classes below.
KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": ((int, float), "a number"),
    "dict": (dict, "keys with values"),
    "list": (list, "a list"),
    "None": (type(None), "null"),
}


@dataclass(frozen=True)
class Source:
    """read: what the numbers were copied from: the source's own text, or another one that quotes it."""

    title: str
    read: str
    authors: str | None = None
    year: int | None = None
    url: str | None = None


@dataclass(frozen=True)
class Tolerance:
    """The largest difference from a published number that counts as reproduced: `within`, or `percent` of the number.

    because: the reason for this size.
    """

    because: str
    within: float | None = None
    percent: float | None = None

    def of(self, published: float) -> float:
        """The tolerance of a published number."""
        return abs(published) * self.percent / 100 if self.percent is not None else self.within or 0.0


@dataclass(frozen=True)
class Need:
    """What a user has to bring.

    about: what it is. setting: of ditexp.run, if it is a file or folder that this setting names. size: of the file, and
    what that rests on. url: where it comes from.
    """

    about: str
    setting: str | None = None
    size: str | None = None
    url: str | None = None


@dataclass(frozen=True)
class PublishedRow:
    """One row of a published table.

    source, where: the name of one of the study's sources, and the table or page there. settings: a cell belongs to this
    row if its `Result.settings` have these values, and if its model's file has the name `checkpoint` (or one of these
    names). protocol: what else must be equal for numbers to be comparable; a list gives several allowed values.
    numbers: by the names of metrics and costs. unverified: numbers that were not read at the source, and where they
    were found. needs: what is needed to run it, by name; None for all that the study needs.
    """

    name: str
    source: str
    where: str
    settings: dict[str, Any]
    numbers: dict[str, float]
    checkpoint: str | list[str] | None = None
    protocol: dict[str, Any] = field(default_factory=dict)
    tolerance: dict[str, Tolerance] = field(default_factory=dict)
    unverified: dict[str, str] = field(default_factory=dict)
    needs: list[str] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Published:
    """A study's published numbers.

    protocol, tolerance: defaults for all rows, by name. needs: what a user has to bring, by name. relative_to: the name
    of the row that all numbers are given relative to, as ratios.
    """

    title: str
    sources: dict[str, Source]
    rows: list[PublishedRow]
    protocol: dict[str, Any] = field(default_factory=dict)
    tolerance: dict[str, Any] = field(default_factory=dict)
    needs: dict[str, Need] = field(default_factory=dict)
    relative_to: str | None = None


def load(path: Path | str) -> Published:
    """Read a study's file. Raises ValueError, one line, for anything that is missing, unknown or of the wrong type."""
    node = read_yaml(path, "a study's published.yaml", remedy="see docs/studies.md")
    try:
        return parse(OmegaConf.to_container(node))
    except ValueError as error:
        raise ValueError(in_line(f"{path}: {error}", 400)) from None


def parse(node: Any) -> Published:
    study: Published = construct(Published, node, "the file")
    sources = {name: construct(Source, source, f"sources.{name}") for name, source in study.sources.items()}
    needs_of_study = {name: need_from(need, f"needs.{name}") for name, need in study.needs.items()}
    rows = []
    for number, given in enumerate(study.rows, 1):
        row: PublishedRow = construct(PublishedRow, given, f"row {number}")
        where = f"row '{in_line(row.name, 60)}'"
        tolerances = {
            name: construct(Tolerance, tolerance, f"{where}, tolerance.{name}")
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
    return dataclasses.replace(study, sources=sources, rows=rows, needs=needs_of_study)


def need_from(node: Any, where: str) -> Need:
    """A need is written as its text alone, or with its setting, size and url."""
    if isinstance(node, str):
        return Need(node)
    need: Need = construct(Need, node, where)
    if need.setting is not None:
        check_setting(need.setting, f"{where}, setting")
    return need


def construct(cls: Any, node: Any, where: str) -> Any:
    """An instance of one of the classes above. Raises ValueError for a key that is unknown, missing or mistyped."""
    known = {part.name: part for part in dataclasses.fields(cls)}
    if not isinstance(node, dict):
        raise ValueError(f"{where} is {in_line(repr(node), 60)}: give {', '.join(known)}")
    for key, value in node.items():
        one_of(key, known, f"{where}, key")
        kinds, words = zip(*(KINDS[name.partition("[")[0]] for name in str(known[key].type).split(" | ")))
        if isinstance(value, bool) or not any(isinstance(value, kind) for kind in kinds):
            raise ValueError(f"{where}, {key} is {in_line(repr(value), 60)}: give {' or '.join(words)}")
    needed = [name for name, part in known.items() if part.default is part.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if node.get(name) in (None, "")]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    return cls(**node)


def reference_name(result: Result) -> str | None:
    if result.measurement and result.measurement.reference:
        return result.measurement.reference.name
    return None


def check_row(row: PublishedRow, where: str) -> None:
    if not row.numbers:
        raise ValueError(f"{where} has no numbers")
    for name, number in row.numbers.items():
        one_of(name, NUMBERS, f"{where}, metric")
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ValueError(f"{where}, {name} is {in_line(repr(number), 60)}: give a number")
        if name not in row.tolerance:
            raise ValueError(f"{where}, {name} has no tolerance")
    for name in row.unverified:
        one_of(name, row.numbers, f"{where}, unverified")
    for name, tolerance in row.tolerance.items():
        one_of(name, NUMBERS, f"{where}, tolerance")
        given = [value for value in (tolerance.within, tolerance.percent) if value is not None]
        if len(given) != 1 or not given[0] >= 0:
            raise ValueError(f"{where}, tolerance.{name}: give either within or percent, at least 0")
    for name in row.settings:
        check_setting(name, f"{where}, settings")
    for name in row.protocol.keys() - RECORDED.keys():
        check_setting(name, f"{where}, protocol")


def check_setting(name: str, where: str) -> None:
    group, dot, _ = name.partition(".")
    one_of(group if dot else name, SETTING_GROUPS if dot else (*SETTING_GROUPS, *SETTING_VALUES), where)


def one_of(name: Any, known: Iterable[str], where: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        what = in_line(str(name), 60)
        raise ValueError(f"{where} '{what}' is unknown{hint}; there are {in_line(', '.join(known) or 'none', 60)}")
