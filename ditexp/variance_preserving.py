"""The discrete diffusion of DDPM (Ho et al. 2020, arXiv 2006.11239) at the times of ditexp's flow.

Its x = sqrt(abar) data + sqrt(1 - abar) noise is variance preserving: alpha^2 + sigma^2 = 1. The flow has the same
ratio of data to noise at t = alpha / (alpha + sigma), where its x is that x / (alpha + sigma); and t gives back
alpha = t / n and sigma = (1 - t) / n with n = sqrt(t^2 + (1 - t)^2), which is 1 / (alpha + sigma).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear_betas(steps: int, *, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """beta_0, beta_1, ... (steps,) float64 on a line: DDPM's 1e-4 to 0.02 in 1000 steps, which is DiT's, too."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int, *, offset: float = 0.008, maximum: float = 0.999) -> Tensor:
    """The betas (steps,) float64 of abar = cos^2((i / steps + s) / (1 + s) pi / 2), none above `maximum`.

    Nichol & Dhariwal 2021, arXiv 2102.09672, equation 17.
    """
    u = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    remaining = ((u + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - remaining[1:] / remaining[:-1]).clamp(max=maximum)


def flow_times(betas: Tensor) -> Tensor:
    """The flow time of each index of a discrete diffusion: (steps,) float64, falling from near 1 to near 0."""
    remaining = (1 - betas).cumprod(0)
    alpha, sigma = remaining.sqrt(), (1 - remaining).sqrt()
    return alpha / (alpha + sigma)
