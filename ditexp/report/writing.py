"""Writes the report of a sweep: tables, figures and a page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from ditexp.files.atomic import atomic
from ditexp.files.json_values import encode
from ditexp.report.frame import frame
from ditexp.report.html.page import html_page
from ditexp.report.index.entry import entry_of
from ditexp.report.plots.along_t import error_along_t
from ditexp.report.plots.heat_map import heat_map
from ditexp.report.plots.quality import quality_vs_cost
from ditexp.report.plots.side_by_side import side_by_side
from ditexp.report.plots.style import save
from ditexp.report.prompts import extremes_of_prompts
from ditexp.report.recommend import Advice, recommend
from ditexp.report.studies.comparison import compare, study_table
from ditexp.report.studies.published import load
from ditexp.report.tables.printing import print_table
from ditexp.report.tables.table import Table
from ditexp.report.titles import swept
from ditexp.result import Result
from ditexp.terminal.console import Terminal, wide_terminal
from ditexp.terminal.escape import for_csv, for_markdown, one_line

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

Part = Callable[[], "str | bytes | Figure | None"]


@dataclass(frozen=True)
class Report:
    """paths: of each part by its file's name: report.html, table.md, table.csv, table.tex, cells.csv, cells.parquet,
    report.json (for the index), quality_vs_cost.png, heat_map.png, samples.png; with metric=trajectory,
    error_vs_cost.png and error_along_t.png; where prompts have scores, prompts.md. None for a part that has nothing to
    show, or that failed.

    title: what was swept. advice: on which cell to use. study: published numbers compared with the results, also
    written as published.md, .csv and .tex; None without any. failed: a line for each part that could not be written.
    """

    title: str
    table: Table
    folder: Path
    paths: dict[str, Path | None]
    advice: list[Advice]
    study: Table | None
    failed: list[str] = field(default_factory=list)


def write_report(
    results: Sequence[Result],
    folder: Path | str,
    *,
    title: str | None = None,
    budgets: Mapping[str, float | None] | None = None,
    published: Path | None = None,
) -> Report:
    """Write all parts of a report into `folder`. If one fails, the others are written nevertheless.

    results: newest last. title: None for what was swept. budgets: for advice, the maximum cost of an image, by the name
    of a cost. published: a study's published.yaml, to compare the results with.
    """
    folder, table = Path(folder), Table.of(results)
    title = title or swept(results) or folder.name
    advice, study = recommend(table, budgets or {}), None
    paths: dict[str, Path | None] = {}
    failed = []
    if published:
        try:
            study = study_table(known := load(published), compare(known, results[::-1]))
        except Exception as error:
            failed.append(f"{published} was not compared with the results: {short_reason(error)}")
    parts = parts_of(table, advice, study, title=title, results=results)
    figure = folder / "quality_vs_cost.png"  # drawn by then, if there is one
    parts["report.json"] = lambda: json.dumps(encode(entry_of(table, title=title, figure=figure)), indent=2)
    for name, make in parts.items():
        path = folder / name
        try:
            paths[name] = path if write_part(path, make()) else None
        except Exception as error:
            paths[name] = None
            failed.append(f"{path} was not written: {short_reason(error)}")
        if paths[name] is None:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # it would be of an earlier report, on other results
    return Report(title, table, folder, paths, advice, study, failed)


def parts_of(
    table: Table, advice: Sequence[Advice], study: Table | None, *, title: str, results: Sequence[Result]
) -> dict[str, Part]:
    """By the name of its file, a function that makes each part."""
    sentences = [each.text for each in advice]
    commands = "\n".join(dict.fromkeys(result.command for result in results if result.command))
    parts: dict[str, Part] = {}
    cells = cache(lambda: frame(results))
    if study:
        parts |= {"published.md": study.markdown, "published.csv": study.csv, "published.tex": study.latex}
    if results:
        parts |= {
            "table.md": lambda: "\n".join([table.markdown(), *(f"- {for_markdown(line)}" for line in sentences), ""]),
            "table.csv": table.csv,
            "table.tex": table.latex,
            "cells.csv": lambda: cells_csv(cells()),
            "cells.parquet": lambda: cells().to_parquet(),
            "quality_vs_cost.png": lambda: quality_vs_cost(table, table.fid),
            "heat_map.png": lambda: heat_map(table, table.fid),
            "error_vs_cost.png": lambda: quality_vs_cost(table, table.metric("trajectory_rmse")),
            "error_along_t.png": lambda: error_along_t(table),
            "samples.png": lambda: side_by_side(table),
            "prompts.md": lambda: extremes_of_prompts(table),
        }
    parts["report.html"] = lambda: html_page(
        table, title=title, command=commands, recommendations=sentences, study=study
    )
    return parts


def cells_csv(cells: pandas.DataFrame) -> str:
    """A line for each cell, with all that `frame` has; texts as in table.csv."""
    texts = cells.select_dtypes("str").columns
    cells = cells.assign(**{name: cells[name].map(for_csv, na_action="ignore") for name in texts})
    return cells.to_csv(index=False, header=[str(for_csv(name)) for name in cells.columns], lineterminator="\n")


def write_part(path: Path, content: str | bytes | Figure | None) -> bool:
    """Write a part; False if there is nothing to write."""
    if content is None:
        return False
    with atomic(path) as part:
        if isinstance(content, str):
            part.write_text(content, encoding="utf-8")
        elif isinstance(content, bytes):
            part.write_bytes(content)
        else:
            save(content, part)
    return True


def short_reason(error: Exception) -> str:
    """Why something failed, in one short line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = shorten(one_line(str(error)), 200, placeholder=" ...")
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def show(report: Report, terminal: Terminal | None = None) -> None:
    """Print the tables and the advice; on a terminal, then the address of the page, and elsewhere all paths."""
    terminal = terminal or wide_terminal()
    terminal.print(Text(one_line(report.title), style="bold"), soft_wrap=True)
    for table, file in ((report.table, "table.csv"), (report.study, "published.csv")):
        if table and table.columns:
            print_table(terminal, table, file=file)
    paths = list(filter(None, report.paths.values()))
    if not terminal.is_terminal:
        for text in (*(each.text for each in report.advice), *map(str, paths)):
            terminal.print(text, soft_wrap=True)
        return
    for advice in report.advice:
        for i, line in enumerate(advice.lines):
            terminal.print(Padding(line, (0, 0, 0, 2 * (i > 0)), expand=False))
    page = report.paths.get("report.html") or report.folder
    terminal.print(f"report: {from_here(page)}", soft_wrap=True)


def from_here(path: Path) -> Path:
    """A path as short as it can be typed in the current folder."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
