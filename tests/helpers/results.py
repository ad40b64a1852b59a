"""Results of cells that tests make up, as JSON objects; and the results and tables that are read from them."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ditexp.report.grids import image_grid
from ditexp.report.tables.table import Table
from ditexp.result import Result

IDS = map(str, itertools.count())


def recorded(*deviations: float, units: int = 500, mean: float = 1.0) -> dict[str, Any]:
    """What is kept of a score's halves."""
    return {"units": units, "mean": mean, "halves": list(deviations)}


def cell(
    *, id=None, solver="euler", steps=20, fid=1.0, num_samples=500, feature="inception", **changes: Any
) -> dict[str, Any]:
    """What is written of a cell that is done; changes replace whole entries."""
    settings = {"model": "digits", "solver": solver, "steps": steps, "weight": 0.0, "compile": False}
    metrics = {"fid": fid, "inception_score": 8.0, "precision": 0.7, "recall": 0.6}
    cost = {"steps": steps, "nfe": float(steps), "forwards": 2.0 * steps, "seconds_per_image": 0.0001 * steps}
    result = {
        "id": id or next(IDS),
        "status": "done",
        "study": "solvers",
        "num_samples": num_samples,
        "settings": settings,
        "cost": cost | {"images_per_second": 1e4 / steps, "peak_memory_mb": None},
        "metrics": metrics,
        "protocol": {"feature": {"name": feature}, "reference": {"name": "digits", "count": 1797}},
        "config": {"num_samples": num_samples, "solver": {"_target_": "ditexp.solver.Euler"}},
    }
    return result | changes


def failed(*, error="FloatingPointError: not finite at step 3", **settings: Any) -> dict[str, Any]:
    """What is written of a cell that failed."""
    done = cell(**settings)
    kept = {key: done[key] for key in ("id", "study", "settings", "config")}
    return kept | {"status": "failed", "error": error}


def sampled(seed=0, noise=(0.3, -0.3, 0.0, 0.0), **changes: Any) -> dict[str, Any]:
    """A cell of one seed, with the halves of its FID."""
    result = cell(id=f"{seed}-{changes}", deviations={"fid": recorded(*noise)}, **changes)
    result["settings"]["seed"] = seed
    return result


def six_cells(folder: Path | None = None) -> list[dict[str, Any]]:
    """Euler and Heun at 5, 10 and 20 steps, one of them failed, one nan; their pictures lie in the folder."""
    results = []
    for solver, order in (("euler", 1), ("heun", 2)):
        for steps in (5, 10, 20):
            result = cell(id=f"{solver}{steps}", solver=solver, steps=steps, fid=2 + 40 / steps**order)
            result["cell_command"] = f"ditexp run solver={solver} steps={steps}"
            result["trajectory"] = {"error_along_t": [[t / steps, t / steps**2] for t in range(steps + 1)]}
            if folder:
                draw = np.random.default_rng(steps)
                result["grid"] = str(folder / f"{result['id']}.png")
                image_grid(draw.integers(0, 256, (100, 8, 8, 1), np.uint8), columns=10).save(result["grid"])
                result["trajectory_picture"] = str(folder / f"{result['id']}.trajectory.png")
                noise = draw.integers(0, 256, (60, 60), np.uint8)
                Image.fromarray(noise).resize((300, 300), 0).save(result["trajectory_picture"])
            results.append(result)
    results[2]["metrics"]["fid"] = math.nan
    results[5] = failed(id="heun20", solver="heun", steps=20)
    return results


def leave(results: Iterable[dict[str, Any]], folder: Path) -> None:
    """As a sweep leaves its cells."""
    for i, result in enumerate(results):
        (folder / str(i)).mkdir(parents=True)
        (folder / str(i) / "cell.json").write_text(json.dumps(result))


def results_of(found: Iterable[dict[str, Any]]) -> list[Result]:
    return [Result.from_json(each) for each in found]


def table_of(found: Iterable[dict[str, Any]]) -> Table:
    return Table.of(results_of(found))
