"""What others published of a study: the file experiments/<study>/published.yaml, read strictly.

docs/studies.md tells its format.
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
from ditexp.report.columns import COSTS, METRICS, feature_of, protocol_of
from ditexp.terminal.notices import in_line

# The names of result["settings"]: choices of groups, whose own settings are <group>.<setting>, and plain values.
GROUPS = ("model", "solver", "schedule", "guidance", "condition", "task", "data", "feature", "reference", "protocol")
VALUES = ("steps", "num_samples", "batch_size", "seed", "precision", "compile")

# Facts of a result that are recorded beside its numbers; those of any other name are its settings.
RECORDED: dict[str, Callable[[dict], Any]] = {
    "protocol": lambda result: protocol_of(result).get("protocol"),
    "feature": feature_of,
    "reference": lambda result: ((result.get("protocol") or {}).get("reference") or {}).get("name"),
    "num_samples": lambda result: result.get("num_samples"),
}
NUMBERS = (*COSTS, *METRICS)

# What a key may be, by its type in the classes below.
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


def load(path: Path | str) -> Published:
    """The published numbers of a study. Raises ValueError, one line, for whatever is missing, unknown or mistyped."""
    node = read_yaml(path, "a study's published.yaml", remedy="see docs/studies.md")
    try:
        return parse(OmegaConf.to_container(node))
    except ValueError as error:
        raise ValueError(in_line(f"{path}: {error}", 400)) from None


def parse(node: Any) -> Published:
    study = made(Published, node, "the file")
    sources = {name: made(Source, source, f"sources.{name}") for name, source in study.sources.items()}
    rows = []
    for number, given in enumerate(study.rows, 1):
        row = made(Row, given, f"row {number}")
        where = f"row '{in_line(row.name, 60)}'"
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
        raise ValueError(f"{where} is {in_line(repr(node), 60)}: give {', '.join(known)}")
    for key, value in node.items():
        one_of(key, known, f"{where}, key")
        kinds, words = zip(*(KINDS[name] for name in known[key].type.split(" | ")))
        if isinstance(value, bool) or not any(isinstance(value, kind) for kind in kinds):
            raise ValueError(f"{where}, {key} is {in_line(repr(value), 60)}: give {' or '.join(words)}")
    needed = [name for name, part in known.items() if part.default is part.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if node.get(name) in (None, "")]:
        raise ValueError(f"{where} has no {', '.join(missing)}")
    return cls(**node)


def check_row(row: Row, where: str) -> None:
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
    for part, known in (("settings", ()), ("protocol", RECORDED)):
        for name in getattr(row, part):
            group, dot, _ = name.partition(".")
            if name not in known:
                one_of(group if dot else name, GROUPS if dot else (*GROUPS, *VALUES), f"{where}, {part}")


def one_of(name: Any, known: Iterable[str], where: str) -> None:
    if name not in known:
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        what = in_line(str(name), 60)
        raise ValueError(f"{where} '{what}' is unknown{hint}; there are {in_line(', '.join(known) or 'none', 60)}")
