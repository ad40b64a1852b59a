"""A report as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from string import Template

from ditexp.report.html.cells import arranged, body_rows, css_class, header_row, network_mark
from ditexp.report.html.data import json_for_html, page_data, various, versions
from ditexp.report.picture_files import MAX_PICTURED
from ditexp.report.tables.comparability import comparable_facts
from ditexp.report.tables.footnotes import warnings
from ditexp.report.tables.table import Table
from ditexp.terminal.escape import for_html
from ditexp.terminal.units import plural

PARTS = Path(__file__).parent
STYLES = ("theme.css", "page.css", "charts.css", "cells.css", "pictures.css")
LIBRARY = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
SCRIPTS = (
    "page.js",
    "figures.js",
    "axes.js",
    "lines.js",
    "charts.js",
    "heat_map.js",
    "errors.js",
    "cells.js",
    "details.js",
    "pictures.js",
    "start.js",
)
MEASURED = {"protocol": "Protocol", "feature network": "Features", "reference": "Reference"}  # names of facts


def html_page(
    table: Table,
    *,
    title: str,
    command: str | None = None,
    recommendations: Sequence[str] = (),
    study: Table | None = None,
) -> str:
    """The HTML text of a page with the table, its plots and its pictures.

    title: what was swept. command: what makes these results. recommendations: sentences on which cell to
    use. study: published numbers compared with these; it is shown even without results. All texts are plain: they are
    escaped here.
    """
    known, mark, table = warnings_of(table), network_mark(table), arranged(table)
    recommendations = [text.replace(mark, "") for text in recommendations]
    css, library, script = map(parts, (STYLES, LIBRARY, SCRIPTS))
    return Template(part("page.html")).substitute(
        css=css,
        css_hash=policy_hash(css),
        library=library,
        library_hash=policy_hash(library),
        script=script,
        script_hash=policy_hash(script),
        title=for_html(title),
        facts="".join(f"<span>{for_html(fact)}</span> " for fact in facts(table) if fact not in title),
        measured=definitions(measured(table)),
        warnings=items([*failures(table), *warnings_of(table)], "warnings"),
        recommendations=section("Which to use", items(recommendations, "recommendations")),
        command=command_line(command),
        study=section("Published numbers", plain_table(study) + notes(study.caption)) if study else "",
        without_results="" if table.rows else "hidden",
        head=header_row(table),
        body=body_rows(table),
        notes=notes([*notes_on_rows(table), *(line for line in table.caption[1:] if line not in known)]),
        data=json_for_html(page_data(table)),
    )


def parts(names: Sequence[str]) -> str:
    return "\n".join(map(part, names))


def part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def policy_hash(content: str) -> str:
    """The source in a Content-Security-Policy that allows a style or a script of exactly this content."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def facts(table: Table) -> list[str]:
    """What heads the page: sweep, cells, samples, seeds, when and with what they were made."""
    results = [row.first for row in table.rows]
    origins = [result.provenance for result in results]
    days = sorted({time[:10] for origin in origins if (time := origin.get("time"))})
    samples = various(f"{count:,}" for result in results if (count := result.requested_samples))
    sweeps = {result.sweep for result in results} - {""}
    seeds = max((len(row.members) for row in table.rows), default=1)
    found = [
        f"sweep {sweeps.pop()}" if len(sweeps) == 1 else "",
        plural(len(results), "cell") if results else "",
        f"{samples} samples each" if samples else "",
        plural(seeds, "seed") if seeds > 1 else "",
        " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        various(origin.get("device") for origin in origins),
        various(map(versions, origins)),
    ]
    return [text for text in found if text]


def measured(table: Table) -> dict[str, str]:
    """How the metrics of all rows were measured."""
    found = [comparable_facts(row.first) for row in table.rows if row.is_done]
    named = {header: various(each.get(name) for each in found) for name, header in MEASURED.items()}
    return {header: text for header, text in named.items() if text}


def failures(table: Table) -> list[str]:
    """A sentence for each way in which cells are not done."""
    counts = Counter(row.first.status for row in table.rows if not row.is_done)
    total = plural(len(table.rows), "cell")
    return [f"{count} of {total}: {status}." for status, count in counts.items()]


def notes_on_rows(table: Table) -> list[str]:
    lines = ["Bold: the best of its column."]
    if len(table.rows) > MAX_PICTURED and any(row.first.grid for row in table.rows):
        lines.append(f"Pictures: of the best {MAX_PICTURED} of {len(table.rows):,} cells.")
    return lines


def warnings_of(table: Table) -> list[str]:
    return warnings([row for row in table.rows if row.is_done], table.columns)


def section(heading: str, content: str) -> str:
    return f"<section><h2>{heading}</h2>{content}</section>" if content else ""


def notes(texts: Sequence[str]) -> str:
    return f"<div class='notes'>{''.join(f'<p>{for_html(text)}</p>' for text in texts)}</div>"


def items(texts: Sequence[str], css_class: str) -> str:
    return f"<ul class='{css_class}'>{''.join(f'<li>{for_html(text)}</li>' for text in texts)}</ul>" if texts else ""


def definitions(facts: dict[str, str]) -> str:
    return "".join(f"<div><dt>{for_html(name)}</dt><dd>{for_html(text)}</dd></div>" for name, text in facts.items())


def command_line(command: str | None) -> str:
    if not command:
        return ""
    button = "<button type='button' class='copy'>Copy</button>"
    return f"<div class='command'><pre tabindex='0'><code>{for_html(command)}</code></pre>{button}</div>"


def plain_table(table: Table) -> str:
    head = "".join(f"<th scope='col' class='{css_class(c)}'>{for_html(c.header)}</th>" for c in table.columns)
    cells = [
        [f"<td class='{css_class(c)}' data-name='{for_html(c.header)}'>{for_html(text)}</td>" for text in c.texts]
        for c in table.columns
    ]
    body = "".join(f"<tr>{''.join(line)}</tr>" for line in zip(*cells))
    return (
        "<div class='box' tabindex='0' role='region' aria-label='Published numbers'>"
        f"<table class='cards study'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
