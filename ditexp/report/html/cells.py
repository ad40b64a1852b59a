"""The table of cells as HTML: settings, metrics, then costs; secondary columns can be folded away."""

from __future__ import annotations

import dataclasses
import re

from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_html

SECONDARY = ("nfe", "images_per_second", "peak_memory_mb")  # costs
SECONDARY_METRIC = re.compile("_(best_seed|std)$")
MAX_FIXED = 4  # columns that stay in view when the table is scrolled sideways


def arranged(table: Table) -> Table:
    """The table with its columns in the order of the page, without `network_mark` in headers."""
    mark = network_mark(table)
    columns = [dataclasses.replace(column, header=column.header.replace(mark, "")) for column in table.columns]
    return dataclasses.replace(table, columns=sorted(columns, key=place))


def network_mark(table: Table) -> str:
    """How headers name the feature network if all metrics share one, as in `FID (dinov2)`; else empty."""
    networks = {column.name.partition("/")[0] for column in table.columns if column.kind == "metric"}
    return f" ({networks.pop()})" if len(networks) == 1 else ""


def place(column: Column) -> tuple[bool, int]:
    kinds = ("setting", "steps", "seeds", "metric", "cost", "error")
    return is_secondary(column), kinds.index(column.name if column.name in kinds else column.kind)


def is_secondary(column: Column) -> bool:
    if column.kind == "metric":
        return bool(SECONDARY_METRIC.search(column.name))
    return column.name in SECONDARY or (column.name == "seeds" and len(set(column.values)) == 1)


def css_class(column: Column) -> str:
    return "error" if column.kind == "error" else "number" if column.is_number else "text"


def classes(table: Table, number: int) -> str:
    """All CSS classes of a column of cells."""
    column = table.columns[number]
    main = next((each for each in table.columns if each.kind == "metric"), None)
    is_setting = column.kind == "setting" or column.name == "steps"
    found = {
        css_class(column): True,
        "setting": is_setting,
        "fixed": is_setting and number < MAX_FIXED,
        "main": column is main,
        "secondary": is_secondary(column),
    }
    return " ".join(name for name, is_so in found.items() if is_so)


def header_row(table: Table) -> str:
    return "".join(header(column, classes(table, i)) for i, column in enumerate(table.columns))


def header(column: Column, css_classes: str) -> str:
    hint = f" title='{'lower' if column.goal is min else 'higher'} is better'" if column.goal else ""
    button = f"<button type='button'{hint}>{for_html(column.header)}</button>"
    return f"<th scope='col' class='{css_classes}' aria-sort='none'>{button}</th>"


def body_rows(table: Table) -> str:
    css = [classes(table, i) for i in range(len(table.columns))]
    return "".join(body_row(table, row, css) for row in range(len(table.rows)))


def body_row(table: Table, row: int, css: list[str]) -> str:
    """The solver, with the button that opens the row's details, then the other columns, each cell with its name."""
    first, *others = table.columns
    name = for_html(table.name(row))
    button = f"<button type='button' class='expand' aria-expanded='false' aria-label='Details of {name}'></button>"
    # On a phone, the long name stands for all settings.
    names = f"<span class='short'>{for_html(first.texts[row])}</span><span class='long'>{name}</span>"
    cells = [f"<th scope='row' class='{css[0]}'>{button}<span class='swatch'></span>{names}</th>"]
    for column, css_classes in zip(others, css[1:]):
        text = re.sub(r" ± [\d.]+", r"<span class='spread'>\g<0></span>", for_html(column.texts[row]))
        text = f"<strong>{text}</strong>" if row in column.best else text
        empty = " data-empty" if column.values[row] is None else ""
        cells.append(f"<td class='{css_classes}' data-name='{for_html(column.header)}'{empty}>{text}</td>")
    kind = "" if table.rows[row].is_done else " class='failed'"
    return f"<tr id='cell-{row}'{kind}>{''.join(cells)}</tr>\n"
