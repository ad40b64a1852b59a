from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.guidance.base import dot, number, per_sample
from ditexp.guidance.cfg import ClassifierFree


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjected(ClassifierFree):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416, algorithm 1), without its momentum.

    It acts on predicted data D = x + (1 - t) v. The difference D_c - D_u is shortened to the norm r where it is longer;
    its part parallel to D_c, which oversaturates, is multiplied by eta; and w times the result is added to D_c.
    In velocities, with d = c - u,

        v = c + w min(1, r / ((1 - t) |d|)) (d + (eta - 1) (<d, D_c> / |D_c|^2) D_c),

    which has no 1 / (1 - t) to divide by at t = 1.

    eta: 0 in the paper; 1 without norm_threshold is `cfg`. norm_threshold: r, None for none; from 2.5 (EDM2) to 15
    (Stable Diffusion XL) there, where it is a norm over the sample: it grows with the number of elements.

    Momentum needs the differences of earlier steps in order, while a field is asked by stages of steps, good and bad
    ones, for whichever samples are still under way; so it would be another thing with every solver.
    """

    eta: float = 0.0
    norm_threshold: float | None = None

    def __post_init__(self):
        super().__post_init__()
        number("guidance.eta", self.eta)
        if self.norm_threshold is not None and number("guidance.norm_threshold", self.norm_threshold) <= 0:
            raise ValueError(f"guidance.norm_threshold={self.norm_threshold}: give a number above 0, or null for none")

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        difference, data = c - u, x + (1 - t) * c
        along = dot(difference, data) / dot(data, data).clamp(min=1e-300)
        update = difference + per_sample((self.eta - 1) * along, x) * data
        if self.norm_threshold is not None:
            norm = (1 - t).flatten().double() * dot(difference, difference).sqrt()
            update = per_sample((self.norm_threshold / norm).clamp(max=1), x) * update
        return c + w * update
