"""A table of results as one HTML page that needs nothing else: no network, no other file."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

import yaml
from PIL import Image

from ditexp.report.columns import Column, is_finite, plain, protocol_of
from ditexp.report.grids import choose_samples, is_picture, reason_of, tell_of_damage
from ditexp.report.plots import PALETTE, line_styles
from ditexp.report.table import Table
from ditexp.terminal.escape import for_html, printable

PARTS = Path(__file__).parent
SCRIPTS = ("plots.js", "cells.js", "figures.js", "pictures.js", "start.js")
PICTURES = ("grid", "trajectory_picture")  # keys of a result: paths of its samples, and of these from noise to data
BUDGET = 6_000_000  # characters of all embedded pictures together
WIDEST = 1200  # pixels of an embedded picture


def page(
    table: Table,
    *,
    title: str,
    command: str | None = None,
    recommendations: Sequence[str] = (),
    study: Table | None = None,
) -> str:
    """The text of an HTML page with the table, its plots and its pictures.

    command: what makes these results. recommendations: sentences on which cell to use. study: published numbers beside
    these. All texts are plain: what is special in HTML is escaped here. Without results, the study stands alone.
    """
    css, script = part("page.css"), "\n".join(map(part, SCRIPTS))
    return Template(part("page.html")).substitute(
        css=css,
        css_hash=policy_hash(css),
        script=script,
        script_hash=policy_hash(script),
        title=for_html(title),
        facts=definitions(facts(table)),
        caption=paragraphs(table.caption[:1]),
        recommendations=section("Which to use", items(recommendations)),
        command=command_line(command),
        study=section("Published, and here", plain_table(study) + notes(study.caption)) if study else "",
        without_results="" if table.results else "hidden",
        head="".join(map(header, table.columns)),
        body="".join(body_row(table, row) for row in range(len(table.results))),
        notes=notes(["Bold: the best of its column.", *table.caption[1:]]),
        data=json_for_html(data(table)),
    )


def part(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def policy_hash(content: str) -> str:
    """What allows a style or a script of exactly this content in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def facts(table: Table) -> dict[str, str]:
    """What the whole page rests on: study, cells, samples, when and by what they were made."""
    results, made = table.results, [result.get("provenance", {}) for result in table.results]
    done = sum(result["status"] == "done" for result in results)
    days = sorted({time[:10] for origin in made if (time := origin.get("time"))})
    found = {
        "Study": various(result.get("study") for result in results),
        "Cells": str(len(results) or "") if done == len(results) else f"{done} of {len(results)} done",
        "Samples per cell": various(f"{count:,}" for result in results if (count := samples_of(result))),
        "Date": " to ".join(dict.fromkeys([*days[:1], *days[-1:]])),
        "Device": various(origin.get("device") for origin in made),
        "Versions": various(map(versions, made)),
    }
    return {name: text for name, text in found.items() if text}


def samples_of(result: dict) -> int | None:
    return result.get("num_samples", result.get("config", {}).get("num_samples"))


def versions(provenance: dict) -> str:
    commit = provenance.get("commit", "")[:10] + " with changes" * bool(provenance.get("dirty"))
    code = " ".join(filter(None, [provenance.get("ditexp"), commit and f"({commit})"]))
    named = {"ditexp": code, "torch": provenance.get("torch"), "CUDA": provenance.get("cuda")}
    return ", ".join(f"{name} {text}" for name, text in named.items() if text)


def various(texts: Iterable[str | None]) -> str:
    return " / ".join(dict.fromkeys(filter(None, texts)))


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
    hint = {min: " title='lower is better'", max: " title='higher is better'"}.get(column.goal, "")
    button = f"<button type='button'{hint}>{for_html(column.header)}</button>"
    return f"<th scope='col' class='{css_class(column)}' aria-sort='none'>{button}</th>"


def css_class(column: Column) -> str:
    return "error" if column.kind == "error" else "number" if column.is_number else "text"


def body_row(table: Table, row: int) -> str:
    """The solver heads its row, with the button that opens the cell; the other columns follow."""
    first, *others = table.columns
    steps = table.column("steps").values[row]
    name = for_html(table.label(row) + (f", {plain(steps)} steps" if steps is not None else ""))
    button = f"<button type='button' class='expand' aria-expanded='false' aria-label='Details of {name}'></button>"
    cells = [f"<th scope='row'>{button}<span class='swatch'></span>{for_html(first.texts[row])}</th>"]
    for column in others:
        text = re.sub(r" ± [\d.]+", r"<span class='spread'>\g<0></span>", for_html(column.texts[row]))
        text = f"<strong>{text}</strong>" if row in column.best else text
        cells.append(f"<td class='{css_class(column)}'>{text}</td>")
    kind = "" if table.results[row]["status"] == "done" else " class='failed'"
    return f"<tr id='cell-{row}'{kind}>{''.join(cells)}</tr>\n"


def data(table: Table) -> dict:
    """What the script of the page works on; rows as in the table."""
    rows = range(len(table.results))
    styles = line_styles(table, list(rows)) if rows else {}
    pictures = embed(path for kind in PICTURES for result in table.results if (path := result.get(kind)))
    number = {path: i for i, path in enumerate(pictures)}
    return {
        "columns": [column_data(column) for column in table.columns],
        "rows": [
            {
                "label": table.label(row),
                "style": style_data(styles[table.label(row)]),
                "details": details(table, row),
                "pictures": {
                    kind: number[path] for kind in PICTURES if (path := table.results[row].get(kind)) in number
                },
                "along": table.results[row].get("trajectory", {}).get("error_along_t"),
            }
            for row in rows
        ],
        "pictures": list(pictures.values()),
        "chosen": choose_samples(table)[0],
    }


def column_data(column: Column) -> dict:
    return {
        "name": column.name,
        "header": column.header,
        "kind": column.kind,
        "number": column.is_number,
        "goal": {min: "min", max: "max"}.get(column.goal),
        "values": column.values,
        "texts": column.texts,
        "spread": column.spread,
        "best": sorted(column.best),
    }


def style_data(style: dict) -> dict:
    """A line's style, as in the other pictures; dash: lengths in line widths, none if it is solid."""
    dash = () if style["linestyle"] == "-" else style["linestyle"][1]
    return {"hue": PALETTE.index(style["color"]), "marker": style["marker"], "dash": dash}


def details(table: Table, row: int) -> dict:
    """All that is known of a cell, as texts: facts, numbers in full, protocol, configuration, command."""
    result = table.results[row]
    members = result.get("members", [result])  # a row may stand for several seeds
    made = [member.get("provenance", {}) for member in members]
    known = {
        "id": various(member.get("id") for member in members),
        "sample set": various(member.get("sample_id") for member in members),
        "seed": various(str(member.get("config", {}).get("seed", "")) for member in members),
        "samples": various(str(samples_of(member) or "") for member in members),
        "made": various(origin.get("time") for origin in made),
        "device": various(origin.get("device") for origin in made),
        "versions": various(map(versions, made)),
        "error": result.get("error"),
    }
    return {
        "facts": [[name, text] for name, text in known.items() if text],
        "numbers": [
            [column.header, number_in_full(column, row)]
            for column in table.columns
            if column.kind in ("cost", "metric") and column.values[row] is not None
        ],
        "comparable": list(protocol_of(result).items()) if result["status"] == "done" else [],
        "protocol": as_yaml(result.get("protocol")),
        "config": as_yaml(result.get("config")),
        "command": "\n".join(dict.fromkeys(member["cell_command"] for member in members if "cell_command" in member)),
    }


def number_in_full(column: Column, row: int) -> str:
    spread = column.spread[row] if column.spread else None
    return f"{column.values[row]:.6g}" + (f" ± {spread:.3g}" if is_finite(spread) else "")


def as_yaml(value: dict | None) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=1000) if value else ""


def embed(paths: Iterable[str]) -> dict[str, dict]:
    """By path {"uri", "width", "height", "hard"} of each picture that is there, together within the budget.

    What small pictures spare of their share is left to large ones.
    """
    sizes = {path: Path(path).stat().st_size for path in set(paths) if is_picture(Path(path))}
    left, pictures = BUDGET, {}
    for done, path in enumerate(sorted(sizes, key=lambda path: (sizes[path], path))):
        try:
            pictures[path] = picture = picture_data(Path(path).read_bytes(), room=left // (len(sizes) - done))
            left -= len(picture["uri"])
        except Exception as error:  # Pillow raises nearly anything for what is no picture
            tell_of_damage(path, reason_of(error))
    return pictures


def picture_data(content: bytes, room: int) -> dict:
    """A PNG in at most `room` characters: with every pixel (hard), if these can be had, or reduced."""
    with Image.open(io.BytesIO(content)) as image:
        if image.width <= WIDEST and len(content) < 2 * room:
            whole = min(uri("png", content), uri("webp", encode(image, lossless=True)), key=len)
            if len(whole) <= room:
                return {"uri": whole, "width": image.width, "height": image.height, "hard": True}
        image = image.convert("RGB")
    width = min(WIDEST, image.width)
    while True:
        size = (width, max(1, round(image.height * width / image.width)))
        reduced = uri("webp", encode(image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0), quality=80))
        if len(reduced) <= room or width < 50:
            return {"uri": reduced, "width": size[0], "height": size[1], "hard": False}
        width = int(width * min(0.9, math.sqrt(room / len(reduced))))


def encode(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "webp", **options)
    return buffer.getvalue()


def uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def json_for_html(value: object) -> str:
    """JSON that no HTML parser takes for the end of its script."""
    text = json.dumps(plain_values(value), allow_nan=False, separators=(",", ":"))
    return text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026")


def plain_values(value: object) -> object:
    """With null for the numbers that JSON doesn't have, and printable texts."""
    if isinstance(value, dict):
        return {name: plain_values(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_values(item) for item in value]
    if isinstance(value, str):
        return printable(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
