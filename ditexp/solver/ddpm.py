from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import choice
from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step, required_noise

# The exponent f of a variance that is not learned: beta~^(1 - f) beta^f.
FIXED = {"fixed_small": 0.0, "fixed_large": 1.0}
VARIANCES = ("learned", *FIXED)


@dataclass(frozen=True)
class DDPM(FixedStep):
    """Ancestral sampling (Ho et al. 2020, arXiv 2006.11239, equation 7), with a learned variance or a fixed one.

    In the paper's notation, from index i with abar to the one before it with abar' and beta = 1 - abar / abar':

        x' = sqrt(abar') beta / (1 - abar) x_1 + sqrt(1 - beta) (1 - abar') / (1 - abar) x + sqrt(variance) noise
        variance = beta^f beta~^(1 - f),    beta~ = beta (1 - abar') / (1 - abar)

    with f = (output of the variance head + 1) / 2 (Nichol & Dhariwal 2021, arXiv 2102.09672, equation 15). On the
    flow's path, from t0 to t1 with predicted data x_1 = x + (1 - t0) v and predicted noise eps = x - t0 v, it is

        x <- t1 x_1 + (1 - t1) [q eps + sqrt(1 - q^2) rho^f noise]
        q = t0 (1 - t1) / (t1 (1 - t0)),    rho^2 = beta / beta~

    q^2 is the ratio of the two signal-to-noise ratios. The last step, to t = 1, adds no noise. It samples any flow
    model: f = 0 keeps the marginals exactly, for the true v and many steps.

    order: the weak order. variance: learned, by a model that predicts it, as DiT does; fixed_small, f = 0;
    fixed_large, f = 1.
    """

    variance: str = "learned"

    order = 1
    stochastic = True

    def __post_init__(self) -> None:
        choice("solver.variance", self.variance, VARIANCES)

    @property
    def uses_variance(self) -> bool:
        return self.variance == "learned"

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        draw, numbers = required_noise(self, noise), itertools.count()

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            output = field(x, t0)
            v, f = split(output) if self.uses_variance else (output, FIXED[self.variance])
            if t1 == 1:
                return x + (1 - t0) * v
            kept, renewed = shares(t0, t1)
            spread = variance_ratio(t0, t1) ** (f / 2)
            return t1 * (x + (1 - t0) * v) + (1 - t1) * (kept * (x - t0 * v) + renewed * spread * draw(next(numbers)))

        return step


def split(output: Tensor) -> tuple[Tensor, Tensor]:
    """The velocity, and f of the variance, each (B, C, ...), from both stacked along the channels."""
    v, head = output.chunk(2, dim=1)
    return v, (head + 1) / 2


def shares(t0: float, t1: float) -> tuple[float, float]:
    """(q, sqrt(1 - q^2)): the shares of the predicted noise that an ancestral step keeps, and that it draws anew."""
    kept = t0 * (1 - t1) / (t1 * (1 - t0))
    # 1 - q^2 as a product, so that short steps lose no digits.
    return kept, math.sqrt((t1 - t0) * (t1 + t0 - 2 * t0 * t1)) / (t1 * (1 - t0))


def variance_ratio(t0: float, t1: float) -> float:
    """beta / beta~ = (1 - abar at t0) / (1 - abar at t1), for t1 below 1."""
    return ((1 - t0) / (1 - t1) * math.hypot(t1, 1 - t1) / math.hypot(t0, 1 - t0)) ** 2
