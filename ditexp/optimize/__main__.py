"""Find good grids for a model: python -m ditexp.optimize [-m] solver=heun guidance=... (see conf/optimize.yaml).

The best found, not the best there are:

exact paths of some samples -> the error of a step between any two times -> for each number of steps the grid of least
sum (dynamic programming) -> fitted to the error at t = 1 -> judged, on other samples, beside all other schedules

All goes to outputs/schedules/<id>.json, where `schedule=optimized` finds it for the same model, solver and guidance.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from rich.table import Table
from rich.text import Text
from torch import Tensor

from ditexp.checks import ConfigError
from ditexp.cli.command import command
from ditexp.cli.components import instantiate
from ditexp.cli.numbers import not_whole_numbers
from ditexp.cli.packaged import packaged
from ditexp.core import Solver
from ditexp.files.atomic import atomic, check_writable
from ditexp.files.content import digest
from ditexp.metric.trajectory import exact_paths, rms
from ditexp.provenance import provenance
from ditexp.run.cell import build_component, flow_of
from ditexp.run.devices import choose_devices
from ditexp.sampler import Sampler, since
from ditexp.schedule.cosine import Cosine
from ditexp.solver.base import FixedStep
from ditexp.solver.dopri5 import Dopri5
from ditexp.terminal.console import wide_terminal
from ditexp.terminal.progress import progress_bar

FIRST = 2**40  # no set has this sample, nor later ones: a grid shall not be judged by samples that it was found on
PAST = 3  # steps that a multistep solver looks back at most
NUDGE = 0.01  # of a step's log length, for derivatives: what rounds in float32 is far below what it changes

Grid = Sequence[float]


@command("optimize")
def main(cfg: DictConfig) -> None:
    sampler, found_for = build(cfg)
    id = digest(found_for)
    out = Path(cfg.out or f"{cfg.outputs}/schedules/{id}.json")
    check_writable(out)
    sampler.load(cfg.trajectories)
    pairs = math.comb(len(sampler.grid), 2)
    with torch.inference_mode(), progress_bar("grids", total=pairs + cfg.max_steps, unit="parts") as bar:
        reference = Dopri5(rtol=cfg.tolerance, atol=cfg.tolerance)
        seen, unseen = (Flow(sampler, reference, FIRST + part * cfg.trajectories, cfg.trajectories) for part in (0, 1))
        grids = {}
        for grid in shortest_paths(seen.times, local_errors(seen, bar.advance), cfg.max_steps):
            grids[len(grid) - 1] = fitted(grid, seen.residuals)
            bar.advance(1)
        errors = {"optimized": {steps: unseen.error(grid) for steps, grid in grids.items()}}
        for name, others in hand_made(grids).items():
            errors[name] = {steps: unseen.error(since(sampler.grid[0], grid)) for steps, grid in others.items()}
    result = {
        "id": id,
        "found_for": found_for,
        "grids": grids,
        "errors": errors,
        "config": OmegaConf.to_container(cfg, resolve=True),
        **provenance(),
    }
    with atomic(out) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    show(errors, out)


def build(cfg: DictConfig) -> tuple[Sampler, dict]:
    """A sampler whose grid are the candidates, and the facts by which a run finds what was found for it."""
    if mistakes := not_whole_numbers(cfg, trajectories=1, candidates=2, max_steps=1, seed=0):
        raise ConfigError("\n".join(mistakes))
    if cfg.max_steps > cfg.candidates:
        raise ConfigError(
            f"max_steps={cfg.max_steps}: there are candidates={cfg.candidates}: give fewer steps, or more"
        )
    parts = {name: build_component(cfg, name) for name in ("model", "solver", "guidance", "condition")}
    model, solver, guidance, conditioner = parts.values()
    if not isinstance(solver, FixedStep) or solver.stochastic:
        what = "chooses its own steps" if solver.adaptive else "adds noise"
        raise ConfigError(f"{type(solver).__name__} {what}: choose a solver of the ODE with fixed steps")
    for part in (guidance, conditioner):
        part.check(model)
    if hasattr(guidance, "on"):
        guidance = guidance.on(None)  # refuses what is in steps, which here are not those of the run
    schedule, (device, *_) = Cosine(steps=cfg.candidates), choose_devices(cfg.devices)
    return Sampler(model, solver, schedule, guidance, conditioner, task=None, seed=cfg.seed, device=device), flow_of(
        parts
    )


class Flow:
    """Some samples that the sampler's solver is tried on: their exact paths, at the times of its grid."""

    def __init__(self, sampler: Sampler, reference: Solver, first: int, count: int) -> None:
        indices = range(first, first + count)
        self.solver, self.times, self.field = sampler.solver, sampler.grid, sampler.field(sampler.condition(indices))
        self.paths = exact_paths(reference, self.field, sampler.noise(indices), self.times)

    def residuals(self, grid: Grid) -> Tensor:
        """What is wrong at t = 1, (S, ...)."""
        return self.solver.integrate(self.field, self.paths.x[0], grid).x - self.paths.x[-1]

    def error(self, grid: Grid) -> float:
        return rms([self.residuals(grid)])

    def step(self, i: int, t1: float) -> Tensor:
        """x at t1 by one step from the exact state at time i.

        Before a multistep solver's come steps of the same length, exact as well, as far as there is time for them.
        """
        start, t0 = self.paths.x[i], self.times[i]

        def field(x: Tensor, t: Tensor) -> Tensor:
            return self.paths.v[i] if x is start else self.field(x, t)

        take = self.solver.begin(field, None)
        if type(self.solver).begin is not FixedStep.begin:
            before = [t0 - back * (t1 - t0) for back in range(PAST, 0, -1)]
            for earlier, later in pairwise([t for t in before if t >= self.times[0]] + [t0]):
                take(self.paths.at(earlier), earlier, later)
        return take(start, t0, t1)


def local_errors(flow: Flow, advance: Callable[[int], None]) -> Tensor:
    """(M, M) float64: the RMS error of a step from each time to each later one; elsewhere inf."""
    errors = torch.full((len(flow.times), len(flow.times)), math.inf, dtype=torch.float64)
    for i, j in combinations(range(len(flow.times)), 2):
        errors[i, j] = rms([flow.step(i, flow.times[j]) - flow.paths.x[j]])
        advance(1)
    return errors


def shortest_paths(times: Grid, costs: Tensor, max_steps: int) -> Iterator[list[float]]:
    """For 1, 2, ... max_steps steps, the times from the first to the last whose steps cost least in all.

    costs: (M, M), of a step from each time to each other, inf where there is none. By dynamic programming: the
    cheapest way to time j in n steps is the cheapest to some i in n - 1, and one more.
    """
    totals, came_from = costs[0], []
    for _ in range(max_steps):
        path = [len(times) - 1]
        for earlier in reversed(came_from):
            path.append(int(earlier[path[-1]]))
        yield [times[i] for i in (0, *reversed(path))]
        totals, earlier = (totals[:, None] + costs).min(dim=0)
        came_from.append(earlier)


def fitted(grid: Grid, residuals: Callable[[Grid], Tensor]) -> list[float]:
    """The grid near this one whose error at t = 1 is least, by Gauss and Newton's method on the steps' log lengths.

    Sums of local errors know neither how the flow carries an error on nor that errors cancel.
    """
    from scipy.optimize import least_squares

    lengths = np.diff(grid)

    def grid_of(logs: np.ndarray) -> list[float]:
        parts = np.cumsum(np.exp([0.0, *logs]))
        return [grid[0], *(grid[0] + (1 - grid[0]) * parts[:-1] / parts[-1]), 1.0]

    def errors(logs: np.ndarray) -> np.ndarray:
        return residuals(grid_of(logs)).flatten().double().cpu().numpy()

    def derivatives(logs: np.ndarray) -> np.ndarray:
        here = errors(logs)
        return np.stack([(errors(logs + nudge) - here) / NUDGE for nudge in NUDGE * np.eye(len(logs))], axis=1)

    if len(lengths) == 1:
        return list(grid)
    logs = np.log(lengths[1:] / lengths[0])
    return [float(t) for t in grid_of(least_squares(errors, logs, derivatives, max_nfev=20, ftol=1e-3).x)]


def hand_made(steps: Sequence[int]) -> dict[str, dict[int, list[float]]]:
    """The grids of every other schedule, with its own settings, that has as many steps as asked for."""
    grids: dict[str, dict[int, list[float]]] = {}
    for file in sorted((packaged("conf") / "schedule").glob("*.yaml")):
        node = OmegaConf.load(file)
        if "steps" not in node or file.stem == "optimized":
            continue
        for number in steps:
            try:
                grid = instantiate(OmegaConf.create({"steps": number, "schedule": node}).schedule).grid().tolist()
            except ValueError:  # a grid that starts at two steps
                continue
            if len(grid) == number + 1:
                grids.setdefault(file.stem, {})[number] = grid
    return grids


def show(errors: dict[str, dict[int, float]], out: Path) -> None:
    """The errors, the least of each number of steps in bold; and where a schedule made by hand is as good."""
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


if __name__ == "__main__":
    main()
