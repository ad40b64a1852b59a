"""What W&B shows of a cell and of a report."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ditexp.files.json_values import encode
from ditexp.outputs import Outputs
from ditexp.report.pareto import front_of
from ditexp.report.picture_files import is_picture
from ditexp.report.tables.column import Column
from ditexp.report.tables.table import Table
from ditexp.result import Result
from ditexp.terminal.units import amount

log = logging.getLogger(__name__)

COSTS = {"forwards": "forwards", "seconds": "seconds_per_image"}  # by their name in a chart's name
PICTURES = {
    "quality_vs_cost": "quality_vs_cost.png",
    "heat_map": "heat_map.png",
    "side_by_side": "samples.png",
    "error_vs_cost": "error_vs_cost.png",
    "error_along_t": "error_along_t.png",
}
MAX_BYTES = 5_000_000  # of a file that is uploaded, apart from pictures


def show_cell(run: Any, result: Result) -> None:
    """Fill in W&B's run of a cell: its summary, pictures and sample set."""
    metrics = {f"{result.network}/{name}": value for name, value in result.metrics.items()}
    costs = encode(result.cost) if result.cost else {}
    costs.pop("steps", None)
    run.summary.update(metrics | costs | {"status": result.status})
    run.summary["error"] = result.error  # even if it is empty: the cell may have failed before
    pictures = {"samples": result.grid, "film": result.film, "trajectory": result.trajectory_picture}
    if media := media_of(pictures):
        run.log(media)
    if result.is_done and result.grid:
        log_sample_set(run, result, Outputs.of_result(result.grid))


def show_report(run: Any, results: Sequence[Result], table: Table, paths: Mapping[str, Path | None]) -> None:
    """Fill in W&B's run of a report: its table, charts, figures, page and references."""
    columns = dict(columns_of(table))
    run.log(
        {"table": wandb_table(columns), **charts(table), **media_of({k: paths.get(v) for k, v in PICTURES.items()})}
    )
    page = paths.get("report.html")
    if page and page.stat().st_size <= MAX_BYTES:
        import wandb

        run.log({"report": wandb.Html(str(page), inject=False)})
    elif page:
        log.info("W&B: %s is not uploaded, because it has %s", page, amount(page.stat().st_size))
    log_references(run, results)


def media_of(paths: Mapping[str, Path | None]) -> dict[str, Any]:
    """The pictures that are there and complete, as W&B shows them; a .gif becomes a video."""
    import wandb

    files = {name: path for name, path in paths.items() if path and is_picture(path)}
    return {
        name: wandb.Video(str(file), format="gif") if file.suffix == ".gif" else wandb.Image(str(file))
        for name, file in files.items()
    }


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
    """`<metric>_vs_<cost>`: a line for each `table.label`, and one for the Pareto front."""
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
    lines = {row: table.label(row) for row in rows}
    points = [[cost.values[row], lines[row], metric.values[row]] for row in rows]
    if metric.goal is not None:
        points += [[cost.values[row], "Pareto front", metric.values[row]] for row in front_of(rows, metric, cost)]
    return [*sorted(points, key=lambda point: (point[1], point[0]))]


def log_sample_set(run: Any, result: Result, outputs: Outputs) -> None:
    """Log an artifact with the description of a sample set and its result, but without the pixels."""
    if result.sample_id is None:
        return
    import wandb

    folder = outputs.sample_set(result.sample_id)
    about = {"sample_id": result.sample_id, "num_samples": result.num_samples}
    artifact = wandb.Artifact(f"samples-{result.sample_id}", "sample-set", metadata=about)
    files = {
        "result.json": outputs.result(result.id),
        "set.json": folder / "set.json",
        "README.md": folder / "README.md",
    }
    for name, file in files.items():
        if file.is_file():  # users may delete sample sets
            artifact.add_file(str(file), name)
    run.log_artifact(artifact)


def log_references(run: Any, results: Sequence[Result]) -> None:
    """Log an artifact for each reference and feature network that the results were measured with.

    It has the file that `python -m ditexp.reference` wrote, if there is one and it is small.
    """
    import wandb

    for name, (facts, prepared) in references(results).items():
        artifact = wandb.Artifact(name, "reference", metadata=facts["reference"])
        with artifact.new_file("reference.json") as file:
            json.dump(facts, file, indent=2, sort_keys=True)
        if prepared.is_file() and prepared.stat().st_size <= MAX_BYTES:
            artifact.add_file(str(prepared), "statistics.safetensors")
        run.log_artifact(artifact)


def references(results: Sequence[Result]) -> dict[str, tuple[dict[str, Any], Path]]:
    """(The facts of each reference, the file that ditexp.reference would write), by the name of its artifact."""
    found = {}
    for result in results:
        if not result.measurement or not result.grid:
            continue
        reference, feature = result.measurement.reference, result.measurement.feature
        if reference and feature:
            end = f"{feature['name']}-{reference.fingerprint[:8]}"
            file = Path(f"{reference.name}-{end}.safetensors").name  # the name in a file of statistics may be a path
            prepared = Outputs.of_result(result.grid).references / file
            facts = {"reference": encode(reference), "feature": feature}
            found[artifact_name(f"reference-{reference.name}", f"-{end}")] = facts, prepared
    return found


def artifact_name(start: str, end: str) -> str:
    """A name that W&B accepts for an artifact: at most 128 characters, only ASCII letters, digits and ._-."""
    start, end = (re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in (start, end))
    return start[: 128 - len(end)] + end
