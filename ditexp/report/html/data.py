"""What the page's script works on, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from ditexp.files.json_values import encode
from ditexp.report.html.embedding import embed
from ditexp.report.picture_files import MAX_PICTURED
from ditexp.report.plots.side_by_side import choose_samples
from ditexp.report.tables.column import Column, is_finite, plain
from ditexp.report.tables.comparability import comparable_facts
from ditexp.report.tables.table import Table
from ditexp.report.titles import is_number
from ditexp.result import SETTING_GROUPS, Result
from ditexp.terminal.escape import printable


def page_data(table: Table) -> dict[str, Any]:
    """Columns, rows in the table's order, and pictures, which rows refer to by number."""
    rows = range(len(table.rows))
    shown = [pictures_of(row.first) if i < MAX_PICTURED else {} for i, row in enumerate(table.rows)]
    pictures = embed(path for paths in shown for path in paths.values())
    number = {path: i for i, path in enumerate(pictures)}
    texts: dict[str, str] = {}
    return {
        "columns": [column_data(column) for column in table.columns],
        "rows": [
            {
                "label": table.labels[row],
                "name": table.name(row),
                "details": details(table, row, texts),
                "pictures": {kind: number[path] for kind, path in shown[row].items() if path in number},
                "samples": table.rows[row].first.requested_samples,
                "along": table.rows[row].first.error_along_t or None,
            }
            for row in rows
        ],
        "pictures": [dataclasses.asdict(picture) for picture in pictures.values()],
        "chosen": choose_samples(table)[0],
    }


def pictures_of(result: Result) -> dict[str, Path]:
    """The paths of a result's pictures, by their kind on the page."""
    paths = {
        "grid": result.grid,
        "trajectory_picture": result.trajectory_picture,
        "film": result.film,
        "prompt_picture": result.prompt_picture,
    }
    return {kind: path for kind, path in paths.items() if path}


def column_data(column: Column) -> dict[str, Any]:
    return {
        "name": column.name,
        "header": column.header,
        "kind": column.kind,
        "number": column.is_number,
        "goal": {min: "min", max: "max"}.get(column.goal) if column.goal else None,
        "values": column.values,
        "texts": column.texts,
        "spread": column.spread,
        "best": sorted(column.best),
    }


def details(table: Table, row: int, texts: dict[str, str]) -> dict[str, Any]:
    """All that is known of a row's cells, as lists of names and texts, and texts. texts: see `as_yaml`."""
    first, members = table.rows[row].first, table.rows[row].members
    origins = [member.provenance for member in members]
    made = {
        "seed": various(str(member.config.get("seed", "")) for member in members),
        "samples": various(f"{count:,}" for member in members if (count := member.requested_samples)),
        "device": various(origin.get("device") for origin in origins),
        "versions": various(map(versions, origins)),
        "made": various(origin.get("time", "")[:16].replace("T", " ") for origin in origins),
        "cell": various(member.id for member in members),
        "sample set": various(member.sample_id for member in members),
    }
    return {
        "settings": settings(table, row),
        "scores": numbers(table, row, "metric"),
        "cost": [pair for pair in numbers(table, row, "cost") if pair[0] not in ("steps", "seeds")],
        "made": [[name, text] for name, text in made.items() if text],
        "error": first.error,
        "comparable": list(comparable_facts(first).items()) if first.is_done else [],
        "protocol": as_yaml(encode(first.measurement), texts),
        "config": as_yaml(first.config, texts),
        "command": "\n".join(dict.fromkeys(member.cell_command for member in members if member.cell_command)),
    }


def settings(table: Table, row: int) -> list[list[str]]:
    """The settings in the table, then, in one text, the other components and their numbers."""
    shown = [column for column in table.columns if column.kind == "setting" or column.name == "steps"]
    known = {column.name for column in shown} | {"feature", "reference", "protocol"}
    rest = ", ".join(
        f"{name} {plain(value)}"
        for name, value in table.rows[row].settings.items()
        if name not in known
        and (name in (*SETTING_GROUPS, "precision") or ("." in name and is_number(value)))
        and value != "none"
    )
    pairs = [[column.header, column.texts[row]] for column in shown if column.values[row] is not None]
    return [*pairs, *([["all else", rest]] if rest else [])]


def numbers(table: Table, row: int, kind: str) -> list[list[str]]:
    return [
        [column.header, number_in_full(column, row)]
        for column in table.columns
        if column.kind == kind and column.values[row] is not None
    ]


def versions(provenance: dict[str, Any]) -> str:
    commit = provenance.get("commit", "")[:10] + " with changes" * bool(provenance.get("dirty"))
    code = " ".join(filter(None, [provenance.get("ditexp"), commit and f"({commit})"]))
    named = {"ditexp": code, "torch": provenance.get("torch"), "CUDA": provenance.get("cuda")}
    return ", ".join(f"{name} {text}" for name, text in named.items() if text)


def various(texts: Iterable[str | None]) -> str:
    return " / ".join(dict.fromkeys(filter(None, texts)))


def number_in_full(column: Column, row: int) -> str:
    spread = column.spread[row] if column.spread else None
    return f"{column.values[row]:.6g}" + (f" ± {spread:.3g}" if is_finite(spread) else "")


def as_yaml(facts: dict[str, Any] | None, texts: dict[str, str]) -> str:
    """texts: of facts that other rows had; most are equal in many rows, and are written once."""
    found = []
    for fact in (facts or {}).items():
        if (key := repr(fact)) not in texts:
            texts[key] = yaml.safe_dump(dict([fact]), sort_keys=False, allow_unicode=True, width=1000)
        found.append(texts[key])
    return "".join(found)


def json_for_html(value: object) -> str:
    """JSON in which no HTML parser finds the end of its script."""
    text = json.dumps(plain_values(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def plain_values(value: object) -> object:
    """With null for NaN and infinity, which JSON does not have, and with printable texts."""
    if isinstance(value, dict):
        return {name: plain_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
