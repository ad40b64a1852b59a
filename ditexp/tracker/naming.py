"""The names of W&B's runs, their groups, tags and config."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from ditexp.files.content import digest
from ditexp.report.titles import DEFAULT_STUDY
from ditexp.result import Result

TAGS = ("model", "solver", "schedule", "guidance", "task")
FACTS = ("study", "sweep", "sample_id", "num_samples", "command", "cell_command", "provenance", "departures")
IN_NAME = ("solver", "steps", "guidance")
MAX_TAG, MAX_NAME = 64, 128  # characters that W&B accepts


def of_cell(cell: Result, start: str | None) -> dict[str, Any]:
    """The arguments of `wandb.init` for a cell. start: of its name."""
    settings = cell.settings
    study = cell.study if cell.study != DEFAULT_STUDY else ""
    return {
        "id": run_id(cell.id),
        "name": name_of(cell, start),
        "group": study or cell.sweep or cell.study,
        "job_type": "sample",
        "tags": [f"{name}:{settings[name]}"[:MAX_TAG] for name in TAGS if name in settings],
        "config": config_of(cell),
    }


def of_report(study: str, results: Sequence[Result], start: str | None) -> dict[str, Any]:
    """The arguments of `wandb.init` for a report."""
    cells = sorted((result.id, result.status) for result in results)
    sweep = next((result.sweep for result in results if result.sweep), "")
    title = study if study != DEFAULT_STUDY else sweep or study
    return {
        "id": "report-" + digest([study, cells]),
        "name": "-".join(filter(None, (start, "report", title)))[:MAX_NAME],
        "group": title,
        "job_type": "report",
        "tags": [],
        "config": {"study": study, "sweep": sweep, "cells": [id for id, _ in cells]},
    }


def run_id(id: str) -> str:
    """An id that W&B accepts: that of a failed cell may contain the name of its folder."""
    return id if re.fullmatch(r"[\w.=-]{1,64}", id) else digest(id)


def name_of(cell: Result, start: str | None) -> str:
    """Solver, steps and guidance, then what else the cell's command chooses: `heun-20-cfg-scale=1.5-seed=1`."""
    settings = cell.settings
    first = [str(settings[name]) for name in IN_NAME if settings.get(name)]
    more = [
        f"{name.rpartition('.')[2]}={settings[name]}"
        for name in typed(cell.cell_command)
        if name in settings and name not in (*IN_NAME, "num_samples", "batch_size")
    ]
    return "-".join(filter(None, [start, *first, *more]))[:MAX_NAME]


def typed(command: str) -> list[str]:
    """The names of a command's settings, each once."""
    with suppress(ValueError):
        words = [word.partition("=") for word in shlex.split(command)]
        return list(dict.fromkeys(name.lstrip("+") for name, is_setting, _ in words if is_setting))
    return []


def config_of(cell: Result) -> dict[str, Any]:
    """Settings and facts of a cell, flat; W&B's filters need names without dots."""
    facts = cell.to_json()
    found = {name.replace(".", "_"): value for name, value in cell.settings.items()}
    found |= flat({name: facts[name] for name in FACTS if name in facts})
    return found | flat({"measured": facts.get("protocol", {})})


def flat(facts: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """Nested names, joined by underscores."""
    found: dict[str, Any] = {}
    for name, value in facts.items():
        found |= flat(value, f"{start}{name}_") if isinstance(value, Mapping) else {f"{start}{name}": value}
    return found
