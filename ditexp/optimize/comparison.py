"""The grids that were found, compared with those of all other schedules."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from omegaconf import OmegaConf
from rich.table import Table
from rich.text import Text

from ditexp.cli.components import instantiate
from ditexp.cli.packaged import packaged
from ditexp.terminal.console import wide_terminal

Errors = dict[str, dict[int, float]]  # by schedule and number of steps


def other_grids(steps: Iterable[int]) -> dict[str, dict[int, list[float]]]:
    """The grids of every other schedule, with its default settings, for each of these numbers of steps it can have."""
    grids: dict[str, dict[int, list[float]]] = {}
    for file in sorted((packaged("conf") / "schedule").glob("*.yaml")):
        node = OmegaConf.load(file)
        if "steps" not in node or file.stem == "optimized":
            continue
        for number in steps:
            try:
                grid = instantiate(OmegaConf.create({"steps": number, "schedule": node}).schedule).grid().tolist()
            except ValueError:  # a schedule that needs at least two steps
                continue
            if len(grid) == number + 1 and grid[-1] == 1:
                grids.setdefault(file.stem, {})[number] = grid
    return grids


def show(errors: Errors, out: Path) -> None:
    """Print the errors, the least for each number of steps in bold, and where another schedule is better."""
    steps, terminal = list(errors["optimized"]), wide_terminal()
    best = {number: min(found[number] for found in errors.values() if number in found) for number in steps}
    table = Table("schedule", title="RMSE of x at t = 1")
    for number in steps:
        table.add_column(f"{number} steps", justify="right")
    for name, found in errors.items():
        values = [(found.get(number), number) for number in steps]
        cells = ["" if value is None else f"{value:.3g}" for value, _ in values]
        bold = [Text(cell, "bold" if value == best[number] else "") for cell, (value, number) in zip(cells, values)]
        table.add_row(name, *bold)
    terminal.print(table)
    beaten = [number for number in steps[1:] if errors["optimized"][number] > best[number]]
    if beaten:
        terminal.print(f"another schedule is better than the optimized one at {', '.join(map(str, beaten))} steps")
    terminal.print(str(out), soft_wrap=True)
