"""Sampling loops that others write, or that one writes by hand, from noise x (B, ...) at t = 0 to data at t = 1.

A loop is given a velocity v(x, t) of a batch, with t (B,), and makes equal steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
Loop = Callable[[Velocity, Tensor, int], Tensor]


def times(x: Tensor, t: float | Tensor) -> Tensor:
    return torch.full((len(x),), t, device=x.device) if isinstance(t, float) else torch.ones(len(x)).to(x) * t


def bare_euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    for step in range(steps):
        x = x + velocity(x, times(x, step / steps)) / steps
    return x


def bare_midpoint(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    h = 1 / steps
    for step in range(steps):
        t = step * h
        middle = x + h / 2 * velocity(x, times(x, t))
        x = x + h * velocity(middle, times(x, t + h / 2))
    return x


def bare_rk4_38(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """Kutta's 3/8 rule, which torchdiffeq calls rk4."""
    h = 1 / steps
    for step in range(steps):
        t = step * h
        k1 = velocity(x, times(x, t))
        k2 = velocity(x + h / 3 * k1, times(x, t + h / 3))
        k3 = velocity(x + h * (k2 - k1 / 3), times(x, t + 2 * h / 3))
        k4 = velocity(x + h * (k1 - k2 + k3), times(x, t + h))
        x = x + h / 8 * (k1 + 3 * k2 + 3 * k3 + k4)
    return x


def torchdiffeq(method: str) -> Loop:
    """odeint on the points of the grid, with t repeated for the batch as in SiT's integrators.py."""
    from torchdiffeq import odeint

    def loop(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
        grid = torch.linspace(0, 1, steps + 1, device=x.device)
        return odeint(lambda t, x: velocity(x, times(x, t)), x, grid, method=method)[-1]

    return loop


def flow_matching(method: str) -> Loop:
    """ODESolver of Meta's flow_matching, with step_size as in its examples."""
    from flow_matching.solver import ODESolver
    from flow_matching.utils import ModelWrapper

    class Wrapped(ModelWrapper):
        def forward(self, x: Tensor, t: Tensor, **extras: object) -> Tensor:
            return self.model(x, times(x, t))

    def loop(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
        solver = ODESolver(velocity_model=Wrapped(velocity))
        return solver.sample(x_init=x, step_size=1 / steps, method=method)

    return loop


def diffusers_euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """FlowMatchEulerDiscreteScheduler, in the loop of diffusers' pipelines: sigma = 1 - t runs from noise to data."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1 - step / steps for step in range(steps)], device=x.device)
    for time in scheduler.timesteps:
        x = scheduler.step(-velocity(x, times(x, 1 - time / 1000)), time, x, return_dict=False)[0]
    return x


def sit_sde(velocity: Velocity, x: Tensor, steps: int, last: float = 0.04) -> Tensor:
    """The calls of SiT's SDE sampler (github.com/willisma/SiT, transport/), with sampling method Euler, diffusion form
    sigma and last step Mean: the drift evaluates the network for the velocity, and again for the score.
    """
    grid = torch.linspace(0, 1 - last, steps)
    h = grid[1] - grid[0]

    def drift(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        now = t.view(-1, *[1] * (x.dim() - 1))
        score = (now * velocity(x, t) - x) / (1 - now)
        return velocity(x, t) + (1 - now) * score, 1 - now

    for time in grid[:-1]:
        noise = torch.randn(x.size()).to(x)
        mean, diffusion = drift(x, times(x, time))
        x = x + h * mean + torch.sqrt(2 * diffusion) * noise * math.sqrt(h)
    return x + last * drift(x, times(x, 1 - last))[0]
