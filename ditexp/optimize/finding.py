"""A sampler whose grid holds the candidate times, the grids that are found for it, and their errors beside others."""

from __future__ import annotations

import math

import torch
from omegaconf import DictConfig

from ditexp.binding import bind
from ditexp.checks import ConfigError
from ditexp.optimize.comparison import Errors, other_grids
from ditexp.optimize.search import Flow, search
from ditexp.pixels import Undecoded
from ditexp.run.components import build_component
from ditexp.run.devices import choose_devices
from ditexp.run.identity import flow_of
from ditexp.sampler import Sampler, since
from ditexp.schedule.cosine import Cosine
from ditexp.solver.base import FixedStep
from ditexp.solver.dopri5 import Dopri5
from ditexp.task.generate import Generate
from ditexp.terminal.progress import progress_bar

# No sample set has this index or a later one, so that no grid is scored on samples that it was found on.
FIRST = 2**40


def build(cfg: DictConfig) -> tuple[Sampler, dict]:
    """A sampler whose grid holds the candidate times, and the facts by which a run finds the result.

    Raises ConfigError, or ValueError, if the components do not fit.
    """
    parts = {name: build_component(cfg, name) for name in ("model", "solver", "guidance", "condition")}
    model, solver, guidance, conditioner = parts.values()
    if not isinstance(solver, FixedStep) or solver.stochastic:
        what = "chooses its own steps" if solver.adaptive else "adds noise"
        raise ConfigError(
            f"solver: {type(solver).__name__} {what}, so there is no grid to optimize: choose a solver of the ODE with "
            "fixed steps, such as solver=heun"
        )
    for part in (guidance, conditioner):
        part.check(model)
    sampler = bind(
        model=model,
        solver=solver,
        schedule=Cosine(steps=cfg.candidates),
        guidance=guidance.on(None),  # refuses an interval in steps: the candidates are not the steps of the run
        conditioner=conditioner,
        task=Generate(),
        seed=cfg.seed,
        device=choose_devices(cfg.devices)[0],
        vae=None if model.codec else Undecoded(),
    )
    return sampler, flow_of(model=model, solver=solver, guidance=guidance)


@torch.inference_mode()
def find(sampler: Sampler, cfg: DictConfig) -> tuple[dict[int, list[float]], Errors]:
    """The grid found for each number of steps; and its error on other samples, next to those of all other schedules."""
    reference, count = Dopri5(rtol=cfg.tolerance, atol=cfg.tolerance), cfg.trajectories
    total = math.comb(len(sampler.grid), 2) + cfg.max_steps
    with progress_bar("grids", total=total, unit="parts") as bar:
        seen = Flow(sampler, reference, first=FIRST, count=count)
        unseen = Flow(sampler, reference, first=FIRST + count, count=count)
        grids = dict(search(seen, cfg.max_steps, bar.advance))
        errors = {"optimized": {steps: unseen.error(grid) for steps, grid in grids.items()}}
        for name, others in other_grids(grids).items():
            errors[name] = {steps: unseen.error(since(sampler.grid[0], grid)) for steps, grid in others.items()}
    return grids, errors
