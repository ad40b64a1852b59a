"""The search for grids of least error: local errors, shortest paths among them, and a fit of the error at t = 1."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
import torch
from torch import Tensor

from ditexp.core import VelocityField
from ditexp.metric.trajectory import AdaptiveSolver, exact_paths, rms
from ditexp.sampler import Sampler
from ditexp.solver.base import FixedStep

NUDGE = 0.01  # of a step's log length, for finite differences: its effect is far above the rounding of float32

Grid = Sequence[float]


@dataclass(frozen=True)
class KnownAt:
    """A field whose velocity v at the state x is known and not evaluated again."""

    field: VelocityField
    x: Tensor
    v: Tensor

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.v if x is self.x else self.field(x, t)

    def take(self, rows: Tensor) -> VelocityField:
        return self.field.take(rows)


class Flow:
    """Some samples that the sampler's solver is tried on, and their exact paths at the times of its grid.

    reference: stands for the exact flow. first, count: the indices of the samples.
    """

    def __init__(self, sampler: Sampler, reference: AdaptiveSolver, *, first: int, count: int) -> None:
        if not isinstance(sampler.solver, FixedStep):
            raise TypeError(f"{type(sampler.solver).__name__} is no solver of fixed steps")
        indices = range(first, first + count)
        self.solver, self.times, self.field = sampler.solver, sampler.grid, sampler.field(sampler.condition(indices))
        self.paths = exact_paths(reference, self.field, sampler.begin(sampler.noise(indices)), self.times)

    def residuals(self, grid: Grid) -> Tensor:
        """The differences at t = 1 between the solver on this grid and the exact paths: (S, ...)."""
        solution = self.solver.integrate(self.field, self.paths.x[0], grid)
        solution.check()
        return solution.x - self.paths.x[-1]

    def error(self, grid: Grid) -> float:
        return rms([self.residuals(grid)])

    def step(self, i: int, t1: float) -> Tensor:
        """x at t1 after one step from the exact state at time i.

        A multistep solver first makes steps of the same length from exact states, as many as it looks back at and as
        there is time for.
        """
        start, t0 = self.paths.x[i], self.times[i]
        take = self.solver.begin(KnownAt(self.field, start, self.paths.v[i]), None)
        before = [t0 - back * (t1 - t0) for back in range(self.solver.history, 0, -1)]
        for earlier, later in pairwise([t for t in before if t >= self.times[0]] + [t0]):
            take(self.paths.at(earlier), earlier, later)
        return take(start, t0, t1)


def search(
    flow: Flow, max_steps: int, advance: Callable[[int], None] = lambda count: None
) -> Iterator[tuple[int, list[float]]]:
    """The best grids found, of 1 to max_steps steps: (steps, grid).

    advance: called once for each local error and each grid.
    """
    for grid in shortest_paths(flow.times, local_errors(flow, advance), max_steps):
        yield len(grid) - 1, fitted(grid, flow.residuals)
        advance(1)


def local_errors(flow: Flow, advance: Callable[[int], None]) -> Tensor:
    """(M, M) float64: the RMS error of a step from each time to each later one; elsewhere inf."""
    errors = torch.full((len(flow.times), len(flow.times)), math.inf, dtype=torch.float64)
    for i, j in combinations(range(len(flow.times)), 2):
        errors[i, j] = rms([flow.step(i, flow.times[j]) - flow.paths.x[j]])
        advance(1)
    return errors


def shortest_paths(times: Grid, costs: Tensor, max_steps: int) -> Iterator[list[float]]:
    """For 1, 2, ... max_steps steps, the times from the first to the last whose steps have the least total cost.

    costs: (M, M), of a step from each time to each other, inf if there is none. By dynamic programming: the cheapest
    way to time j in n steps is the cheapest way to some time i in n - 1 steps, and one step more.
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
    """The grid near this one with the least error at t = 1, by the Gauss-Newton method on the steps' log lengths.

    The sum of local errors ignores how the flow amplifies an error, and that errors cancel.
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
