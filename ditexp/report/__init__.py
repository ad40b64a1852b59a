"""The report of a sweep: its table and pictures, and reading back the results they are made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ditexp.core import notice
from ditexp.files import atomic
from ditexp.records import read_result
from ditexp.report.grids import side_by_side
from ditexp.report.page import page as html_page
from ditexp.report.plots import error_along_t, heat_map, quality_vs_cost
from ditexp.report.published import load
from ditexp.report.recommend import recommend
from ditexp.report.study import compare, study_table
from ditexp.report.table import Table, escape_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Report:
    """paths: where each part lies: report.html, table.md, table.csv, table.tex, and pictures: quality_vs_cost.png,
    heat_map.png, samples.png and, of metric=trajectory, error_vs_cost.png and error_along_t.png.

    A picture for which the results hold nothing is None. advice: what to use, a sentence each. study: published
    numbers beside those of the results, also as published.md, .csv and .tex; None without any.
    """

    table: Table
    paths: dict[str, Path | None]
    advice: list[str]
    study: Table | None


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
    whose numbers are set beside those of the results. Raises ValueError if it is not right.
    """
    folder, table = Path(folder), Table.of(results)
    advice = recommend(table, budgets or {})
    study = study_table(known := load(published), compare(known, results[::-1])) if published else None
    paths: dict[str, Path | None] = {}
    markdown = "\n".join([table.markdown(), *(f"- {escape_markdown(sentence)}" for sentence in advice), ""])
    texts = {"table.md": markdown, "table.csv": table.csv(), "table.tex": table.latex()} if results else {}
    if study:
        texts |= {"published.md": study.markdown(), "published.csv": study.csv(), "published.tex": study.latex()}
    commands = dict.fromkeys(command for result in results if (command := result.get("command")))
    texts["report.html"] = html_page(
        table, title=title, command="\n".join(commands), recommendations=advice, study=study
    )
    for name, text in texts.items():
        paths[name] = folder / name
        with atomic(paths[name]) as part:
            part.write_text(text, encoding="utf-8")
    for name, figure in (pictures(table) if results else {}).items():
        path = folder / name
        if figure is None:
            path.unlink(missing_ok=True)  # an earlier report's picture would belong to other results
            paths[name] = None
            continue
        with atomic(path) as part:
            figure.savefig(part, format="png", facecolor="white")
        paths[name] = path
    return Report(table, paths, advice, study)


def pictures(table: Table) -> dict[str, Figure | None]:
    return {
        "quality_vs_cost.png": quality_vs_cost(table, table.fid),
        "heat_map.png": heat_map(table, table.fid),
        "error_vs_cost.png": quality_vs_cost(table, table.metric("trajectory_rmse")),
        "error_along_t.png": error_along_t(table),
        "samples.png": side_by_side(table),
    }


def show(report: Report) -> None:
    """Print the table, the advice, and where the report lies."""
    console = wide_console()
    for table in filter(None, (report.table, report.study)):
        if table.columns:
            console.print(table.rich())
    for text in (*report.advice, *map(str, filter(None, report.paths.values()))):
        console.print(text, highlight=False, markup=False, soft_wrap=True)


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


def wide_console() -> Console:
    """The terminal's own width; in a file or a pipe, enough that no table is squeezed."""
    return Console() if Console().is_terminal else Console(width=240)
