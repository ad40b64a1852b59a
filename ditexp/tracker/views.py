"""What the W&B runs of a cell and of a report show."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ditexp.report.columns import Column, feature_of, is_finite
from ditexp.report.grids import is_picture
from ditexp.report.plots import pareto_front
from ditexp.report.table import Table
from ditexp.terminal.units import amount

log = logging.getLogger(__name__)

COSTS = {"forwards": "forwards", "seconds": "seconds_per_image"}  # by the names of charts
PICTURES = {
    "quality_vs_cost": "quality_vs_cost.png",
    "heat_map": "heat_map.png",
    "side_by_side": "samples.png",
    "error_vs_cost": "error_vs_cost.png",
    "error_along_t": "error_along_t.png",
}
LARGEST = 5_000_000  # bytes of a file that is uploaded beside pictures


def show_cell(run, result: dict) -> None:
    network = feature_of(result)
    metrics = {f"{network}/{name}": value for name, value in result.get("metrics", {}).items()}
    costs = {name: value for name, value in result.get("cost", {}).items() if name != "steps"}
    run.summary.update(metrics | costs | {"status": result["status"]})
    # A run that is done after it had failed has a summary from before.
    run.summary["error"] = result.get("error", "")
    grid = result.get("grid") and Path(result["grid"])
    pictures = {"samples": grid, "film": grid and grid.with_suffix(".gif")}
    if media := media_of(pictures | {"trajectory": result.get("trajectory_picture")}):
        run.log(media)
    if result["status"] == "done" and grid:
        log_sample_set(run, result)


def show_report(run, results: Sequence[dict], table: Table, paths: Mapping[str, Path | None]) -> None:
    columns = dict(columns_of(table))
    run.log(
        {"table": wandb_table(columns), **charts(table), **media_of({k: paths.get(v) for k, v in PICTURES.items()})}
    )
    page = paths.get("report.html")
    if page and page.stat().st_size <= LARGEST:
        import wandb

        run.log({"report": wandb.Html(str(page), inject=False)})
    elif page:
        log.info("W&B: %s has %s and is not uploaded", page, amount(page.stat().st_size))
    log_references(run, results)


def media_of(paths: Mapping[str, str | Path | None]) -> dict:
    """Of those that are there and whole, a .gif as a film."""
    import wandb

    files = {name: Path(path) for name, path in paths.items() if path and is_picture(Path(path))}
    media = {".png": lambda path: wandb.Image(path), ".gif": lambda path: wandb.Video(path, format="gif")}
    return {name: media[file.suffix](str(file)) for name, file in files.items()}


def columns_of(table: Table) -> Iterator[tuple[str, Sequence]]:
    """As in table.csv."""
    for column in table.columns:
        yield column.name, column.values
        if column.spread:
            yield f"{column.name}_sd", column.spread


def wandb_table(columns: Mapping[str, Sequence]):
    import wandb

    rows = [list(row) for row in zip(*columns.values())]
    return wandb.Table(list(columns), rows, allow_mixed_types=True)


def charts(table: Table) -> dict:
    """`<metric>_vs_<cost>`: a line for each solver, or whatever else sets cells apart, and one for the Pareto front."""
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
    """FID, or else the first metric; then those of the usual ones that are there."""
    first = [column for column in table.columns if column.kind == "metric"][:1]
    usual = [table.metric(name) for name in ("inception_score", "precision", "recall")]
    return {column.name.rpartition("/")[2]: column for column in filter(None, [*first, *usual])}


def points_of(table: Table, metric: Column, cost: Column | None) -> list[list]:
    """[cost, line, quality] of each point, those of a line from cheap to dear."""
    if cost is None:
        return []
    rows = [row for row, pair in enumerate(zip(cost.values, metric.values)) if all(map(is_finite, pair))]
    lines = {row: table.label(row) for row in rows}
    points = [[cost.values[row], lines[row], metric.values[row]] for row in rows]
    if metric.goal is not None:
        sign = -1 if metric.goal is max else 1
        front = pareto_front({row: (cost.values[row], sign * metric.values[row]) for row in rows})
        points += [[cost.values[row], "Pareto front", metric.values[row]] for row in front]
    return sorted(points, key=lambda point: (point[1], point[0]))


def log_sample_set(run, result: dict) -> None:
    """What a set is and what was measured of it; its pixels stay where they are."""
    import wandb

    record = Path(result["grid"]).with_suffix(".json")
    folder = record.parents[1] / "samples" / result["sample_id"]
    about = {"sample_id": result["sample_id"], "num_samples": result["num_samples"]}
    artifact = wandb.Artifact(f"samples-{result['sample_id']}", "sample-set", metadata=about)
    files = {"result.json": record, "set.json": folder / "set.json", "README.md": folder / "README.md"}
    for name, file in files.items():
        if file.is_file():  # sets may be deleted
            artifact.add_file(str(file), name)
    run.log_artifact(artifact)


def log_references(run, results: Sequence[dict]) -> None:
    """What numbers were measured against: an artifact for each reference and feature network.

    With the file of `python -m ditexp.reference`, if there is one and it is small.
    """
    import wandb

    for name, (facts, prepared) in references(results).items():
        artifact = wandb.Artifact(name, "reference", metadata=facts["reference"])
        with artifact.new_file("reference.json") as file:
            json.dump(facts, file, indent=2, sort_keys=True)
        if prepared.is_file() and prepared.stat().st_size <= LARGEST:
            artifact.add_file(str(prepared), "statistics.safetensors")
        run.log_artifact(artifact)


def references(results: Sequence[dict]) -> dict[str, tuple[dict, Path]]:
    """By the names of their artifacts, what is known of each, and the file that ditexp.reference would write."""
    found = {}
    for result in results:
        protocol = result.get("protocol") or {}
        reference, feature = protocol.get("reference"), protocol.get("feature")
        if reference and feature and result.get("grid"):
            end = f"{feature['name']}-{reference['fingerprint'][:8]}"
            file = Path(f"{reference['name']}-{end}.safetensors").name  # a file of statistics may hold any name
            prepared = Path(result["grid"]).parents[1] / "cache" / "references" / file
            facts = {"reference": reference, "feature": feature}
            found[artifact_name(f"reference-{reference['name']}", f"-{end}")] = facts, prepared
    return found


def artifact_name(start: str, end: str) -> str:
    """What W&B takes for the name of an artifact: letters of ASCII, digits and ._- alone, 128 at most."""
    start, end = (re.sub(r"[^A-Za-z0-9_.-]+", "-", part) for part in (start, end))
    return start[: 128 - len(end)] + end
