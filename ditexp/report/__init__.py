"""The report of a sweep: its table and pictures, and reading back the results they are made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from ditexp.files import atomic
from ditexp.report.grids import side_by_side
from ditexp.report.plots import error_along_t, quality_vs_cost
from ditexp.report.table import Table


@dataclass(frozen=True)
class Report:
    """paths: where each part lies: table.md, table.csv, table.tex, and pictures: quality_vs_cost.png, samples.png and,
    of metric=trajectory, error_vs_cost.png and error_along_t.png.

    A picture for which the results hold nothing is None.
    """

    table: Table
    paths: dict[str, Path | None]


def write_report(results: Sequence[dict], folder: Path | str) -> Report:
    """Write the table and the pictures of `results`, one dict a cell, into `folder`."""
    folder, table = Path(folder), Table.of(results)
    paths: dict[str, Path | None] = {}
    texts = {"table.md": table.markdown(), "table.csv": table.csv(), "table.tex": table.latex()}
    for name, text in texts.items():
        paths[name] = folder / name
        with atomic(paths[name]) as part:
            part.write_text(text, encoding="utf-8")
    figures = {
        "quality_vs_cost.png": quality_vs_cost(table, table.fid),
        "error_vs_cost.png": quality_vs_cost(table, table.metric("trajectory_rmse")),
        "error_along_t.png": error_along_t(table),
        "samples.png": side_by_side(table),
    }
    for name, figure in figures.items():
        path = folder / name
        if figure is None:
            path.unlink(missing_ok=True)  # an earlier report's picture would belong to other results
            paths[name] = None
            continue
        with atomic(path) as part:
            figure.savefig(part, format="png", facecolor="white")
        paths[name] = path
    return Report(table, paths)


def read_results(folder: Path) -> list[dict]:
    """The results of a sweep (`*/cell.json`) or of a single run (`cell.json`). Raises ValueError if none."""
    files = [folder / "cell.json"] if (folder / "cell.json").is_file() else sorted(folder.glob("*/cell.json"))
    if not files:
        raise ValueError(f"{folder} holds neither cell.json nor */cell.json: give the folder of a run or a sweep")
    results = []
    for file in files:
        try:
            results.append(json.loads(file.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{file} is not JSON: {error}") from error
    return results


def wide_console() -> Console:
    """The terminal's own width; in a file or a pipe, enough that no table is squeezed."""
    return Console() if Console().is_terminal else Console(width=240)
