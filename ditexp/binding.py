"""Binds the components of a cell into a sampler, and checks those that must fit each other."""

from __future__ import annotations

import torch

from ditexp.core import (
    VAE,
    Cache,
    Codec,
    Conditioner,
    FlowMapModel,
    FlowModel,
    Guidance,
    Schedule,
    Solver,
    TransformerModel,
    VarianceModel,
)
from ditexp.meter import Meter
from ditexp.network import Network
from ditexp.pixels import Pixels
from ditexp.precision import PRECISIONS, check_precision
from ditexp.sampler import Sampler, since
from ditexp.task.base import Task
from ditexp.terminal.notices import notice
from ditexp.transfer import DrawnAhead


def bind(
    *,
    model: FlowModel,
    solver: Solver,
    schedule: Schedule,
    guidance: Guidance,
    conditioner: Conditioner,
    task: Task,
    seed: int,
    device: torch.device,
    vae: VAE | None = None,
    cache: Cache | None = None,
    rounding: str = "half_up",
    precision: str = "fp32",
    compile: bool | str = False,
) -> Sampler:
    """Make a sampler: take the grid from the schedule, and cut it where model and guidance let samples begin to move.

    Prints a notice for each setting without effect. Raises ValueError if the guidance does not fit the grid, or the VAE
    or the solver the model.

    vae: for a model of latents. cache: of the outputs of its blocks. rounding: of images to pixels, ditexp/pixels.py.

    precision, compile: names of PRECISIONS and values of COMPILE in ditexp/precision.py.
    """
    if precision == "tf32" and device.type != "cuda":
        notice(f"precision=tf32 acts on CUDA only; on {device.type} this is fp32")
    check_precision(precision, device)
    check_variance(model, solver)
    check_times(model, solver)
    check_cache(cache, model, solver, compile)
    grid = schedule.grid().tolist()
    if solver.adaptive:
        without = "steps and schedule don't act" if grid[-1] == 1 else "of the schedule, its end alone acts"
        notice(f"{type(solver).__name__} chooses its own steps: {without} on it")
    guidance = guidance.on(None if solver.adaptive else grid)
    start = max(model.start, guidance.start)
    meter = Meter(device)
    return Sampler(
        model=model,
        solver=solver,
        schedule=schedule,
        grid=since(start, grid) if start else grid,
        guidance=guidance,
        cache=cache,
        conditioner=conditioner,
        task=task,
        codec=codec_of(model, vae),
        rounding=rounding,
        seed=seed,
        device=device,
        precision=precision,
        compile=compile,
        network=network_for(solver, model, meter, precision, compile),
        meter=meter,
        draws=DrawnAhead(device),
    )


def network_for(solver: Solver, model: FlowModel, meter: Meter, precision: str, compile: bool | str) -> Network:
    """The model as this solver evaluates it."""
    return Network(
        model,
        meter,
        PRECISIONS[precision],
        compile,
        adaptive=solver.adaptive,
        with_variance=solver.uses_variance,
        of_two_times=solver.uses_flow_map,
    )


def check_variance(model: FlowModel, solver: Solver) -> None:
    """Raise ValueError if the solver needs a variance that the model does not predict."""
    if solver.uses_variance and not (isinstance(model, VarianceModel) and model.has_variance):
        raise ValueError(
            "solver.variance=learned needs a model that predicts the variance of its steps, as DiT does, and this one "
            "doesn't: choose solver.variance=fixed_small"
        )


def check_times(model: FlowModel, solver: Solver) -> None:
    """Raise ValueError unless the solver is for a model of one time, or two, as this one is."""
    name, is_map = type(model).__name__, isinstance(model, FlowMapModel)
    if solver.uses_flow_map and not is_map:
        raise ValueError(
            f"solver=flow_map jumps with a model of two times, such as MeanFlow, and {name} has one: choose solver=heun"
        )
    if is_map and not solver.uses_flow_map:
        raise ValueError(
            f"solver: {name} is a model of two times, for jumps and not for {type(solver).__name__}: choose "
            "solver=flow_map"
        )


def check_cache(cache: Cache | None, model: FlowModel, solver: Solver, compile: bool | str) -> None:
    """Raise ValueError if the cache cannot reuse anything of the model, or of the solver's evaluations."""
    if cache is None:
        return
    name = type(cache).__name__
    if compile == "max":
        raise ValueError(
            "compile=max compiles the network as a whole, and a cache goes through its blocks: choose true"
        )
    if not isinstance(model, TransformerModel):
        raise ValueError(
            f"cache: {name} reuses blocks of a DiT, which {type(model).__name__} has not: choose cache=none"
        )
    if solver.uses_flow_map:
        raise ValueError(
            f"cache: {name} reuses outputs of evaluations at times close by, and jumps have none: choose cache=none"
        )
    if solver.adaptive:
        raise ValueError(
            f"cache: {name} needs evaluations in the order of time, but {type(solver).__name__} repeats steps: choose "
            "cache=none, or fixed steps such as solver=heun"
        )
    cache.check(model)


def codec_of(model: FlowModel, vae: VAE | None) -> Codec:
    """The VAE's codec or, without one, the model's own. Raises ValueError for a VAE too many or too few."""
    if vae is None and model.codec is None:
        raise ValueError(
            f"this model makes latents of {' x '.join(map(str, model.sample_shape))}, which a VAE decodes: choose "
            "vae=sd_vae_ft_ema or the one that it was trained with"
        )
    if isinstance(model.codec, Pixels) and vae is not None:
        raise ValueError("this model makes pixels, not latents: choose vae=none")
    codec = model.codec if vae is None else vae.codec(model.sample_shape)
    assert codec is not None, "checked above"
    return codec
