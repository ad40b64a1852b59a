"""The report of a sweep: its table and pictures, and reading back the results they are made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from ditexp.files.atomic import atomic
from ditexp.files.records import read_result
from ditexp.report import plots
from ditexp.report.grids import side_by_side
from ditexp.report.html.page import page as html_page
from ditexp.report.published import load
from ditexp.report.recommend import recommend
from ditexp.report.study import compare, study_table
from ditexp.report.table import Table
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.escape import for_markdown, one_line
from ditexp.terminal.notices import notice

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """paths: where each part lies: report.html, table.md, table.csv, table.tex, and pictures: quality_vs_cost.png,
    heat_map.png, samples.png and, of metric=trajectory, error_vs_cost.png and error_along_t.png.

    A part for which the results hold nothing, or that failed, is None. advice: what to use, a sentence each. study:
    published numbers beside those of the results, also as published.md, .csv and .tex; None without any. failed: a
    line for each part that could not be written, with its path and why.
    """

    table: Table
    paths: dict[str, Path | None]
    advice: list[str]
    study: Table | None
    failed: list[str] = field(default_factory=list)


def write_report(
    results: Sequence[dict],
    folder: Path | str,
    *,
    title: str,
    budgets: Mapping[str, float | None] | None = None,
    published: Path | None = None,
) -> Report:
    """Write the table, the page and the pictures of `results`, one dict a cell, the newest last, into `folder`.

    budgets: by the name of a cost, the most that an image may cost, for advice. published: a study's published.yaml,
    whose numbers are set beside those of the results. A part that fails keeps no other part from being written.
    """
    folder, table = Path(folder), Table.of(results)
    advice, study = recommend(table, budgets or {}), None
    paths: dict[str, Path | None] = {}
    failed = []
    if published:
        try:
            study = study_table(known := load(published), compare(known, results[::-1]))
        except Exception as error:
            failed.append(f"{published} was not compared with the results: {reason_of(error)}")
    for name, make in parts_of(table, advice, study, title=title, results=results).items():
        path = folder / name
        try:
            paths[name] = path if write_part(path, make()) else None
        except Exception as error:
            paths[name] = None
            failed.append(f"{path} was not written: {reason_of(error)}")
        if paths[name] is None:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # an earlier report's part would belong to other results
    return Report(table, paths, advice, study, failed)


def parts_of(
    table: Table, advice: Sequence[str], study: Table | None, *, title: str, results: Sequence[dict]
) -> dict[str, Callable[[], str | Figure | None]]:
    """By its file's name, what makes each part of a report: a text, a figure, or nothing."""
    commands = "\n".join(dict.fromkeys(command for result in results if (command := result.get("command"))))
    parts: dict[str, Callable[[], str | Figure | None]] = {}
    if study:
        parts |= {"published.md": study.markdown, "published.csv": study.csv, "published.tex": study.latex}
    if results:
        parts |= {
            "table.md": lambda: "\n".join([table.markdown(), *(f"- {for_markdown(line)}" for line in advice), ""]),
            "table.csv": table.csv,
            "table.tex": table.latex,
            "quality_vs_cost.png": lambda: plots.quality_vs_cost(table, table.fid),
            "heat_map.png": lambda: plots.heat_map(table, table.fid),
            "error_vs_cost.png": lambda: plots.quality_vs_cost(table, table.metric("trajectory_rmse")),
            "error_along_t.png": lambda: plots.error_along_t(table),
            "samples.png": lambda: side_by_side(table),
        }
    page = {"title": title, "command": commands, "recommendations": advice, "study": study}
    return parts | {"report.html": lambda: html_page(table, **page)}


def write_part(path: Path, content: str | Figure | None) -> bool:
    """Whether there is anything to write."""
    if content is None:
        return False
    with atomic(path) as part:
        if isinstance(content, str):
            part.write_text(content, encoding="utf-8")
        else:
            plots.save(content, part)
    return True


def reason_of(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = shorten(one_line(str(error)), 200, placeholder=" ...")
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"


def show(report: Report) -> None:
    """Print the table, the advice, and where the report lies."""
    terminal = wide_terminal()
    for table in filter(None, (report.table, report.study)):
        if table.columns:
            terminal.print(table.rich())
    for text in (*report.advice, *map(str, filter(None, report.paths.values()))):
        terminal.print(text, soft_wrap=True)


def read_results(folder: Path) -> list[dict]:
    """The results of a sweep (`*/cell.json`) or of a single run (`cell.json`). Raises ValueError if none."""
    files = [folder / "cell.json"] if (folder / "cell.json").is_file() else sorted(folder.glob("*/cell.json"))
    if not files:
        raise ValueError(f"{folder} holds neither cell.json nor */cell.json: give the folder of a run or a sweep")
    if not (found := readable(files)):
        raise ValueError(f"{folder} holds no result that can be read: run its command again")
    return found


def readable(files: Iterable[Path]) -> list[dict]:
    """The results in these files; a notice names each that is damaged."""
    found = []
    for file in files:
        try:
            found.append(read_result(file))
        except FileNotFoundError:
            pass  # removed meanwhile
        except ValueError as error:
            notice(f"{error}: it is left out; its run's command writes it again")
    return found


def study_results(outputs: Path, study: str) -> list[dict]:
    """The newest result of each cell that was run under that study's name, the newest last.

    A failure is left out once the same cell is done.
    """
    files = [*outputs.glob("runs/*/cell.json"), *outputs.glob("runs/*/*/cell.json")]
    files.sort(key=lambda file: file.stat().st_mtime if file.exists() else 0)  # a sweep may be removing it
    found = [result for result in readable(files) if result.get("study") == study]
    newest = {json.dumps(result["settings"], sort_keys=True): result["id"] for result in found}
    return list({result["id"]: result for result in found if result["id"] in set(newest.values())}.values())
