"""A report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from string import Template

from ditexp.report.html.data import json_for_html, page_data, various, versions
from ditexp.report.tables.column import Column, plain
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_html

PARTS = Path(__file__).parent
STYLES = ("page.css", "charts.css")
LIBRARY = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
SCRIPTS = (
    "elements.js",
    "axes.js",
    "lines.js",
    "charts.js",
    "heat_map.js",
    "errors.js",
    "cells.js",
    "pictures.js",
    "start.js",
)


def html_page(
    table: Table,
    *,
    title: str,
    command: str | None = None,
    recommendations: Sequence[str] = (),
    study: Table | None = None,
) -> str:
    """The HTML text of a page with the table, its plots and its pictures.

    command: what makes these results. recommendations: sentences on which cell to use. study: published numbers
    compared with these; it is shown even without results. All texts are plain: they are escaped here.
    """
    css, library, script = map(parts, (STYLES, LIBRARY, SCRIPTS))
    return Template(part("page.html")).substitute(
        css=css,
        css_hash=policy_hash(css),
        library=library,
        library_hash=policy_hash(library),
        script=script,
        script_hash=policy_hash(script),
        title=for_html(title),
        facts=definitions(facts(table)),
        caption=paragraphs(table.caption[:1]),
        recommendations=section("Which to use", items(recommendations)),
        command=command_line(command),
        study=section("Published numbers", plain_table(study) + notes(study.caption)) if study else "",
        without_results="" if table.rows else "hidden",
        head="".join(map(header, table.columns)),
        body="".join(body_row(table, row) for row in range(len(table.rows))),
        notes=notes(["Bold: the best of its column.", *table.caption[1:]]),
        data=json_for_html(page_data(table)),
    )


def parts(names: Sequence[str]) -> str:
    return "\n".join(map(part, names))


def part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def policy_hash(content: str) -> str:
    """The source in a Content-Security-Policy that allows a style or a script of exactly this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def facts(table: Table) -> dict[str, str]:
    """What heads the page: study, cells, samples, when and with what they were made."""
    results = [row.first for row in table.rows]
    origins = [result.provenance for result in results]
    done = sum(result.is_done for result in results)
    days = sorted({time[:10] for origin in origins if (time := origin.get("time"))})
    found = {
        "Study": various(result.study for result in results),
        "Cells": str(len(results) or "") if done == len(results) else f"{done} of {len(results)} done",
        "Samples per cell": various(f"{count:,}" for result in results if (count := result.requested_samples)),
        "Date": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        "Device": various(origin.get("device") for origin in origins),
        "Versions": various(map(versions, origins)),
    }
    return {name: text for name, text in found.items() if text}


def section(heading: str, content: str) -> str:
    return f"<section><h2>{heading}</h2>{content}</section>" if content else ""


def paragraphs(texts: Sequence[str]) -> str:
    return "".join(f"<p>{for_html(text)}</p>" for text in texts)


def notes(texts: Sequence[str]) -> str:
    return f"<div class='notes'>{paragraphs(texts)}</div>"


def items(texts: Sequence[str]) -> str:
    return (
        f"<ul class='recommendations'>{''.join(f'<li>{for_html(text)}</li>' for text in texts)}</ul>" if texts else ""
    )


def definitions(facts: dict[str, str]) -> str:
    return "".join(f"<div><dt>{for_html(name)}</dt><dd>{for_html(text)}</dd></div>" for name, text in facts.items())


def command_line(command: str | None) -> str:
    if not command:
        return ""
    button = "<button type='button' class='copy'>Copy</button>"
    return f"<div class='command'><pre tabindex='0'><code>{for_html(command)}</code></pre>{button}</div>"


def plain_table(table: Table) -> str:
    head = "".join(f"<th scope='col' class='{css_class(c)}'>{for_html(c.header)}</th>" for c in table.columns)
    cells = [[f"<td class='{css_class(c)}'>{for_html(text)}</td>" for text in c.texts] for c in table.columns]
    lines = map("".join, zip(*cells))
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        "<div class='box' tabindex='0' role='region' aria-label='Published numbers'>"
        f"<table class='study'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def header(column: Column) -> str:
    hint = f" title='{'lower' if column.goal is min else 'higher'} is better'" if column.goal else ""
    button = f"<button type='button'{hint}>{for_html(column.header)}</button>"
    return f"<th scope='col' class='{css_class(column)}' aria-sort='none'>{button}</th>"


def css_class(column: Column) -> str:
    return "error" if column.kind == "error" else "number" if column.is_number else "text"


def body_row(table: Table, row: int) -> str:
    """The solver, with the button that opens the row's details, then the other columns."""
    first, *others = table.columns
    steps = table.steps[row]
    name = for_html(table.label(row) + (f", {plain(steps)} steps" if steps is not None else ""))
    button = f"<button type='button' class='expand' aria-expanded='false' aria-label='Details of {name}'></button>"
    cells = [f"<th scope='row'>{button}<span class='swatch'></span>{for_html(first.texts[row])}</th>"]
    for column in others:
        text = re.sub(r" ± [\d.]+", r"<span class='spread'>\g<0></span>", for_html(column.texts[row]))
        text = f"<strong>{text}</strong>" if row in column.best else text
        cells.append(f"<td class='{css_class(column)}'>{text}</td>")
    kind = "" if table.rows[row].is_done else " class='failed'"
    return f"<tr id='cell-{row}'{kind}>{''.join(cells)}</tr>\n"
