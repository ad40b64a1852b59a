"""Results and tables from JSON objects, which tests make up."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ditexp.report.tables.table import Table
from ditexp.result import Result


def results_of(found: Iterable[dict[str, Any]]) -> list[Result]:
    return [Result.from_json(each) for each in found]


def table_of(found: Iterable[dict[str, Any]]) -> Table:
    return Table.of(results_of(found))
