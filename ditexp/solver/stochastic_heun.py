from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import flag
from ditexp.core import VelocityField
from ditexp.solver.sde import SDE
from ditexp.values import added


@dataclass(frozen=True)
class StochasticHeun(SDE):
    """Heun's method with the same noise in prediction and correction: two evaluations per step, weak order 2.

    With drift b and k = sqrt(h w(t0 + h/2)) noise,

        y = x + h b(x, t0) + k,    x <- x + h/2 [b(x, t0) + b(y, t1)] + k,

    which is the explicit order 2.0 weak scheme of Kloeden & Platen (section 15.1) for noise that does not depend on x.
    w is that of the middle of the step, to account for its change; with it, the singular part of sbdm at norm 1,
    dx = -x / t dt + sqrt(2 / t) dW, is integrated exactly.
    The step that ends at t = 1, and the first step of sbdm and kl, evaluate once. With the constant form the order
    needs last=tweedie: last=mean omits noise of variance h w.

    noise_first: the method that SiT's code calls Heun. It adds all noise of the step to x, with w at t0, and then makes
    Heun's step of the drift, with both evaluations at the noisier x. That splitting has weak order 1.
    """

    noise_first: bool = added(False)

    def __post_init__(self) -> None:
        super().__post_init__()
        flag("solver.noise_first", self.noise_first)

    @property
    def order(self) -> int:
        return 1 if self.noise_first else 2

    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, noise: Tensor) -> Tensor:
        h = t1 - t0
        if self.noise_first:
            x = x + math.sqrt(h * self.w(t0)) * noise
            drift = self.drift_of(field, x, t0)
            return x + h / 2 * (drift + self.drift_of(field, x + h * drift, t1))
        drift = self.drift_of(field, x, t0)
        kick = math.sqrt(h * self.w(t0 + h / 2)) * noise
        ahead = x + h * drift + kick
        return x + h / 2 * (drift + self.drift_of(field, ahead, t1)) + kick
