from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step, required_noise
from ditexp.solver.ddpm import shares
from ditexp.solver.euler import Euler


@dataclass(frozen=True)
class DDIM(FixedStep):
    """Denoising diffusion implicit models (Song et al. 2021, arXiv 2010.02502, equation 12).

        x' = sqrt(abar') x_1 + sqrt(1 - abar' - sigma^2) eps + sigma noise,    sigma^2 = eta^2 beta~

    in the notation of `DDPM`. On the flow's path, from t0 to t1 with q as there, it is

        x <- t1 x_1 + (1 - t1) [sqrt(1 - eta^2 (1 - q^2)) eps + eta sqrt(1 - q^2) noise]

    eta: 0 is the ODE, where this is Euler's step x + (t1 - t0) v; 1 is `DDPM` with variance=fixed_small.
    """

    eta: float = 0.0

    order = 1

    def __post_init__(self) -> None:
        number("solver.eta", self.eta, minimum=0, maximum=1)

    @property
    def stochastic(self) -> bool:
        return self.eta > 0

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        if not self.stochastic:
            return Euler().begin(field, noise)
        draw, numbers = required_noise(self, noise), itertools.count()

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            v = field(x, t0)
            if t1 == 1:
                return x + (1 - t0) * v
            renewed = self.eta * shares(t0, t1)[1]
            kept = math.sqrt(1 - renewed**2)
            return t1 * (x + (1 - t0) * v) + (1 - t1) * (kept * (x - t0 * v) + renewed * draw(next(numbers)))

        return step
