"""How long the page of a report with 200 cells needs to load, and how large it is: python -m benchmarks.page [PAGE]

Times are from the start of the navigation until table, charts and pictures are drawn, in headless Chromium from disk,
with a new browser for each run; and the processor time of the page's thread alone, which other work on the machine
changes less. Numbers and pictures are made up, but realistic in size. PAGE: the same page as another version wrote it;
it is loaded in turn with this one, and the ratio is noted.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from playwright.sync_api import sync_playwright

from benchmarks.cells import configuration
from ditexp.provenance import provenance
from ditexp.report.grids import image_grid
from ditexp.report.html.page import html_page
from ditexp.report.tables.table import Table
from ditexp.result import CostPerImage, Measurement, ReferenceRecord, Result

RUNS = 5
SOLVERS = ("euler", "heun", "midpoint", "rk4", "ab2", "ab3", "dpmpp_2m", "unipc")
STEPS, WEIGHTS = (5, 10, 20, 50, 100), (0.0, 0.25, 0.5, 1.0, 2.0)


def results(folder: Path) -> list[Result]:
    """200 cells, each with a grid of 100 samples and a picture of four samples over time."""
    config: Any = OmegaConf.to_container(configuration([f"outputs={folder}"]), resolve=True)
    cells = itertools.product(SOLVERS, STEPS, WEIGHTS)
    return [result(folder, config, number, *cell) for number, cell in enumerate(cells)]


def result(folder: Path, config: dict[str, Any], number: int, solver: str, steps: int, weight: float) -> Result:
    draw = np.random.default_rng(number)
    grid, trajectory = folder / f"{number}.png", folder / f"{number}.trajectory.png"
    for path, count, columns in ((grid, 100, 10), (trajectory, 36, 9)):
        image_grid(draw.integers(0, 17, (count, 8, 8, 1)).astype(np.uint8) * 15, columns).save(path)
    order = 1 + SOLVERS.index(solver) % 4
    fid = 1.5 + weight + 40 / steps**order + 0.1 * draw.random()
    forwards = steps * order * (2 if weight else 1)
    times = np.linspace(0, 1, steps + 1)
    cost = CostPerImage(
        steps=steps,
        nfe=steps * order,
        forwards=forwards,
        seconds_per_image=1e-4 * forwards,
        images_per_second=None,
        preparation_seconds=None,
        peak_memory_mb=None,
    )
    return Result(
        id=f"{number:016x}",
        status="done",
        study="benchmark",
        sample_id=f"{number:016x}",
        num_samples=10_000,
        settings={"solver": solver, "guidance.weight": weight, "steps": steps, "seed": 0},
        cost=cost,
        metrics={"fid": fid, "inception_score": 9.9 - fid / 20, "precision": 0.7, "recall": 0.6},
        details={"trajectory": {"error_along_t": [[t, t / steps**order] for t in times.tolist()]}},
        measurement=Measurement(feature={"name": "digits"}, reference=ReferenceRecord(name="digits", count=1797)),
        config=config,
        command=f"ditexp run solver={solver} steps={steps} guidance.weight={weight}",
        grid=grid,
        trajectory_picture=trajectory,
    )


def load_seconds(chromium: str, file: Path) -> tuple[float, float]:
    """On the clock, and of the processor by the page's thread."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1366, "height": 768})
        session = tab.context.new_cdp_session(tab)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        tab.goto(file.resolve().as_uri())
        tab.wait_for_function("performance.getEntriesByName('ready').length")
        clock = tab.evaluate("performance.getEntriesByName('ready')[0].startTime") / 1000
        metrics = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}
        browser.close()
    return clock, metrics["TaskDuration"]


def measured(chromium: str, pages: dict[str, Path]) -> dict[str, Any]:
    """Of each page: its size and times."""
    times = [{name: load_seconds(chromium, page) for name, page in pages.items()} for _ in range(RUNS)]
    found = {}
    for name, page in pages.items():
        clock, processor = zip(*(run[name] for run in times))
        found[name] = {
            "bytes": page.stat().st_size,
            "seconds_to_load": clock,
            "median_seconds_to_load": statistics.median(clock),
            "median_processor_seconds_to_load": statistics.median(processor),
        }
    return found


def main() -> None:
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not chromium:
        raise SystemExit("no chromium on the path: install it, or give the path of the executable as CHROMIUM=...")
    with tempfile.TemporaryDirectory() as folder:
        table, file = Table.of(results(Path(folder))), Path(folder) / "report.html"
        begin = time.perf_counter()
        file.write_text(html_page(table, title="200 cells"), encoding="utf-8")
        writing = time.perf_counter() - begin
        found = measured(chromium, {"page": file} | dict(zip(["before"], map(Path, sys.argv[1:]))))
    result = {"cells": len(table.rows), "seconds_to_write": writing, **found.pop("page"), **found}
    if found:
        names = ("bytes", "median_seconds_to_load", "median_processor_seconds_to_load")
        result["ratio_to_before"] = {name: result[name] / result["before"][name] for name in names}
    result |= provenance()
    out = Path(__file__).parent / "results" / "page.json"
    out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
