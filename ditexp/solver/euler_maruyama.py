from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.sde import SDE


@dataclass(frozen=True)
class EulerMaruyama(SDE):
    """The Euler-Maruyama method (Maruyama 1955): one evaluation per step, weak order 1.

        x <- x + h b(x, t) + sqrt(h w_t) noise,    b = v + w_t s / 2

    Kloeden & Platen, "Numerical Solution of Stochastic Differential Equations", section 14.1. It is SiT's sampling
    method "Euler", which gives SiT's best published numbers.
    """

    order = 1

    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, noise: Tensor) -> Tensor:
        h = t1 - t0
        return x + h * self.drift_of(field, x, t0) + math.sqrt(h * self.w(t0)) * noise
