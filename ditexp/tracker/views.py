"""What W&B's runs of cells and reports show."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditexp.files.json_values import encode
from ditexp.report.pareto import front_of
from ditexp.report.picture_files import MAX_PICTURED, is_picture
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.report.titles import swept
from ditexp.result import Result
from ditexp.terminal.units import amount
from ditexp.tracker.lineage import MAX_BYTES, log_lineage_of_cell, log_lineage_of_report
from ditexp.tracker.naming import config_of, name_of, run_id

log = logging.getLogger(__name__)

COSTS = {"forwards": "forwards", "seconds": "seconds_per_image"}  # by their name in a chart's name
PICTURES = {
    "quality_vs_cost": "quality_vs_cost.png",
    "heat_map": "heat_map.png",
    "side_by_side": "samples.png",
    "error_vs_cost": "error_vs_cost.png",
    "error_along_t": "error_along_t.png",
}
MAX_CAPTION = 200


def define_metrics(run: Any) -> None:
    """Let W&B draw progress against minutes, not against the numbers of rows."""
    run.define_metric("progress/minutes", hidden=True)
    run.define_metric("progress/*", step_metric="progress/minutes")


def show_preview(run: Any, cell: Result, picture: Path) -> None:
    """Show the first samples of a cell that runs."""
    if media := media_of({"preview": picture}, caption_of(cell)):
        run.log(media)


def show_cell(run: Any, result: Result) -> None:
    """Fill in W&B's run of a cell: its scores, summary, pictures and artifacts."""
    metrics = {f"{result.network}/{name}": value for name, value in result.metrics.items()}
    costs = encode(result.cost) if result.cost else {}
    costs.pop("steps", None)
    run.config.update(config_of(result), allow_val_change=True)
    pictures = {
        "samples": result.grid,
        "film": result.film,
        "trajectory": result.trajectory_picture,
        "prompts": result.prompt_picture,
    }
    if row := metrics | media_of(pictures, caption_of(result)):
        run.log(row)
    run.summary.update(metrics | costs | {"status": result.status})
    run.summary["error"] = result.error  # even if it is empty: the cell may have failed before
    if result.is_done and result.grid:
        log_lineage_of_cell(run, result)


def show_report(run: Any, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
    """Fill in W&B's run of a report: its table, charts, figures, page and artifacts."""
    pictures = media_of({name: paths.get(file) for name, file in PICTURES.items()}, swept(results))
    run.log({"table": report_table(table), **charts(table), **pictures})
    page = paths.get("report.html")
    if page and page.stat().st_size <= MAX_BYTES:
        import wandb

        run.log({"report": wandb.Html(str(page), inject=False)})
    elif page:
        log.info("W&B: %s is not uploaded, because it has %s", page, amount(page.stat().st_size))
    log_lineage_of_report(run, results, paths)


def media_of(paths: Mapping[str, Path | None], caption: str) -> dict[str, Any]:
    """The pictures that are there and complete, as W&B shows them; a .gif becomes a video."""
    import wandb

    files = {name: path for name, path in paths.items() if path and is_picture(path)}
    return {
        name: wandb.Video(str(file), format="gif", caption=caption)
        if file.suffix == ".gif"
        else wandb.Image(str(file), caption=caption)
        for name, file in files.items()
    }


def caption_of(cell: Result) -> str:
    """What a cell's pictures show: its name, and the condition with its own settings, such as prompts or classes."""
    about = {name: value for name, value in cell.settings.items() if name.partition(".")[0] == "condition"}
    words = [f"{name.removeprefix('condition.')}: {value}" for name, value in about.items()]
    return ", ".join([name_of(cell, None), *words])[:MAX_CAPTION]


def report_table(table: Table) -> Any:
    """The report's table, and the run ids, the seeds and a picture of each row."""
    import wandb

    columns = dict(columns_of(table))
    if table.rows:
        columns["run"] = [", ".join(run_id(member.id) for member in row.members) for row in table.rows]
        columns["seed"] = [str(row.settings.get("seed", "")) for row in table.rows]
        grids = [row.first.grid if row.is_done and i < MAX_PICTURED else None for i, row in enumerate(table.rows)]
        columns["samples"] = [wandb.Image(str(grid)) if grid and is_picture(grid) else None for grid in grids]
    return wandb_table(columns)


def columns_of(table: Table) -> Iterator[tuple[str, Sequence]]:
    """(name, values) of each column, as in table.csv."""
    for column in table.columns:
        yield column.name, column.values
        if column.spread:
            yield f"{column.name}_sd", column.spread


def wandb_table(columns: Mapping[str, Sequence]) -> Any:
    import wandb

    rows: list[Iterable[Any]] = [list(row) for row in zip(*columns.values())]
    return wandb.Table(list(columns), rows, allow_mixed_types=True)


def charts(table: Table) -> dict[str, Any]:
    """`<metric>_vs_<cost>`: a line for each `table.labels`, and one for the Pareto front."""
    import wandb

    found = {}
    for name, metric in charted(table).items():
        for cost_name, cost in COSTS.items():
            points = points_of(table, metric, table.column(cost))
            if not points:
                continue
            data = wandb.Table([cost, "cells", name], points)
            fields = {"step": cost, "lineKey": "cells", "lineVal": name}
            title = {"title": f"{metric.header} against {cost.replace('_', ' ')}", "xname": cost}
            found[f"{name}_vs_{cost_name}"] = wandb.plot_table("wandb/lineseries/v0", data, fields, title)
    return found


def charted(table: Table) -> dict[str, Column]:
    """The metrics that have charts, by name: FID or else the first one, then the most common ones."""
    first = [column for column in table.columns if column.kind == "metric"][:1]
    usual = [table.metric(name) for name in ("inception_score", "precision", "recall")]
    return {column.metric: column for column in filter(None, [*first, *usual])}


def points_of(table: Table, metric: Column, cost: Column | None) -> list[Iterable[Any]]:
    """[cost, line, quality] of each point, sorted by line and cost."""
    if cost is None:
        return []
    rows = [row for row in cost.finite if row in metric.finite]
    lines = {row: table.labels[row] for row in rows}
    points = [[cost.values[row], lines[row], metric.values[row]] for row in rows]
    if metric.goal is not None:
        points += [[cost.values[row], "Pareto front", metric.values[row]] for row in front_of(rows, metric, cost)]
    return [*sorted(points, key=lambda point: (point[1], point[0]))]
