"""The prompts with the highest and the lowest scores of each cell, as Markdown."""

from __future__ import annotations

from typing import Any

from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_markdown


def extremes_of_prompts(table: Table) -> str | None:
    """A table for each cell whose prompts have scores; None if none has."""
    parts = []
    for number, row in enumerate(table.rows):
        kept = row.first.details.get("prompts", {})
        highest, lowest = kept.get("highest", []), kept.get("lowest", [])
        if highest or lowest:
            parts.append(section(table.name(number), kept, [*highest, *lowest[::-1]]))
    return "\n".join(parts) if parts else None


def section(name: str, kept: dict[str, Any], shown: list[dict[str, Any]]) -> str:
    """kept: see `evaluate.per_prompt.summary`. shown: prompts from the highest score to the lowest."""
    columns = list(dict.fromkeys(key for each in shown for key in each))
    lines = [
        f"## {for_markdown(name)}",
        "",
        f"{len(shown)} of {kept.get('count', '?')} prompts; all are in results/{for_markdown(str(kept.get('table')))}.",
        "",
        f"| {' | '.join(map(for_markdown, columns))} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(for_markdown(text_of(each.get(column))) for column in columns)} |" for each in shown),
        "",
    ]
    return "\n".join(lines)


def text_of(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
