"""The grid that a pipeline of diffusers has by itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ditexp.checks import whole
from ditexp.schedule.base import Steps
from ditexp.variance_preserving import flow_times, linear_betas

CHOICES = "choose schedule=uniform, shift or flux"
EULER, DPM_SOLVER, DDIM = "FlowMatchEulerDiscreteScheduler", "DPMSolverMultistepScheduler", "DDIMScheduler"
UNSUPPORTED = (
    *("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "invert_sigmas"),
    "stochastic_sampling",
)
# Of DDIMScheduler, for the steps of DDIM on DiT's diffusion.
DDIM_SETTINGS = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "timestep_spacing": "leading",
    "steps_offset": 0,
    "beta_schedule": "linear",
    "trained_betas": None,
    "set_alpha_to_one": True,
    "clip_sample": False,
    "thresholding": False,
    "prediction_type": "epsilon",
    "rescale_betas_zero_snr": False,
}


@dataclass(frozen=True)
class PipelineSteps(Steps):
    """The times of a pipeline's steps: 1 - sigma, as its scheduler makes them of the pipeline's own sigmas.

    The pipeline's even sigmas run from 1 to 1 / N in N points. FlowMatchEulerDiscreteScheduler shifts them,
    s sigma / (1 + (s - 1) sigma), by its own s or, if shifting is dynamic, by e^mu, where mu grows with the number of
    image tokens; and appends 0. Without sigmas from the pipeline, as for Stable Diffusion 3, it shifts twice: first
    the last sigma, and then all from 1 to that.

    points: the grid, once the model is known; an adaptive solver only needs its ends.
    """

    points: tuple[float, ...] = (0.0, 1.0)

    @property
    def identity(self) -> dict:
        """Only the points: it does not matter which pipeline they come from."""
        return {"class": type(self).__qualname__, "points": list(self.points)}

    def tuned_to(self, flow: dict) -> PipelineSteps:
        """The schedule with the points of the flow's model. flow: JSON-able facts; those of the model have a grid.

        Raises ValueError for a model without such facts, and for a scheduler whose sigmas are not known.
        """
        facts = flow["model"].get("grid") if isinstance(flow["model"], dict) else None
        if not facts:
            raise ValueError(
                f"schedule=pipeline has the times of a pipeline of diffusers, and this model is none: {CHOICES}"
            )
        if facts["scheduler"] not in SCHEDULERS:
            raise ValueError(
                f"schedule=pipeline knows {', '.join(SCHEDULERS)}, and this pipeline has a {facts['scheduler']}: "
                f"{CHOICES}"
            )
        sigmas = SCHEDULERS[facts["scheduler"]](facts, self.steps)
        return replace(self, points=(*(1 - sigmas).tolist(), 1.0))

    def grid(self) -> Tensor:
        return torch.tensor(self.points, dtype=torch.float64)


def flow_match_euler(facts: Mapping[str, Any], steps: int) -> Tensor:
    """The sigmas of FlowMatchEulerDiscreteScheduler.set_timesteps, (steps,) float64 from 1 on."""
    config = facts["config"]
    if wrong := [name for name in UNSUPPORTED if config.get(name)]:
        raise ValueError(f"schedule=pipeline: this pipeline's scheduler has {wrong[0]}, which is not done: {CHOICES}")
    if config["use_dynamic_shifting"]:
        mu = RULES_OF_MU[facts["mu"]](facts, steps)
        shift = math.exp(mu) if config["time_shift_type"] == "exponential" else mu
        last = 1 / config["num_train_timesteps"]  # is not shifted
    else:
        shift = config["shift"]
        last = shifted(torch.tensor(1 / config["num_train_timesteps"]).double(), shift).item()
    end = 1 / steps if facts["sigmas"] == "even" else last
    sigmas = shifted(torch.linspace(1, end, steps, dtype=torch.float64), shift)
    if terminal := config["shift_terminal"]:
        if steps == 1:
            raise ValueError("steps=1: this pipeline's scheduler ends before 0, which needs two steps: give 2 or more")
        sigmas = 1 - (1 - sigmas) * (1 - terminal) / (1 - sigmas[-1])
    return sigmas


def flow_dpm_solver(facts: Mapping[str, Any], steps: int) -> Tensor:
    """The sigmas of DPMSolverMultistepScheduler with flow sigmas, but 1 in place of its first one, 0.9997 for Sana."""
    config = facts["config"]
    if not config["use_flow_sigmas"] or config["final_sigmas_type"] != "zero":
        raise ValueError(f"schedule=pipeline: this pipeline's scheduler is not one of flows that end at 0: {CHOICES}")
    if wrong := [name for name in UNSUPPORTED if config.get(name)]:
        raise ValueError(f"schedule=pipeline: this pipeline's scheduler has {wrong[0]}, which is not done: {CHOICES}")
    first = 1 - 1 / config["num_train_timesteps"]
    sigmas = shifted(torch.linspace(first, 0, steps + 1, dtype=torch.float64)[:-1], config["flow_shift"])
    sigmas[0] = 1
    return sigmas


def ddim(facts: Mapping[str, Any], steps: int) -> Tensor:
    """1 - t at the indices 0, s, 2 s, ... of DDIMScheduler, s = the whole part of 1000 / steps, the last first.

    The first step starts where the model does, at the last index of the diffusion, where DDIMScheduler's starts at the
    last multiple of s with the same noise.
    """
    config = facts["config"]
    if wrong := [name for name, value in DDIM_SETTINGS.items() if config.get(name, value) != value]:
        raise ValueError(f"schedule=pipeline: this pipeline's scheduler has {wrong[0]}={config[wrong[0]]}: {CHOICES}")
    times = flow_times(linear_betas(1000))
    whole("steps", steps, minimum=1, maximum=len(times))
    sigmas = 1 - times[:: len(times) // steps][:steps].flip(0)
    sigmas[0] = 1
    return sigmas


def shifted(sigmas: Tensor, shift: float) -> Tensor:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def linear_mu(facts: Mapping[str, Any], steps: int) -> float:
    """A line in the number of image tokens through the scheduler's two points."""
    config = facts["config"]
    first, last = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (last - first)
    return config["base_shift"] + slope * (facts["tokens"] - first)


def empirical_mu(facts: Mapping[str, Any], steps: int) -> float:
    """FLUX.2's: lines in the image tokens for 10 and for 200 steps, and a line in the steps between these."""
    tokens = facts["tokens"]
    many, few = 0.00016927 * tokens + 0.45666666, 8.73809524e-05 * tokens + 1.89833333
    return many if tokens > 4300 else few + (many - few) * (steps - 10) / 190


SCHEDULERS: Mapping[str, Callable[[Mapping[str, Any], int], Tensor]] = {
    EULER: flow_match_euler,
    DPM_SOLVER: flow_dpm_solver,
    DDIM: ddim,
}
RULES_OF_MU: Mapping[str, Callable[[Mapping[str, Any], int], float]] = {"linear": linear_mu, "empirical": empirical_mu}
