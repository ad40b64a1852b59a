from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.base import at
from ditexp.solver.sde import SDE


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

    SiT's "Heun" is another method: it first adds all noise of the step to x and then makes Heun's step of the drift,
    with both evaluations at the noisier x. That splitting has weak order 1.
    """

    order = 2

    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, drift: Tensor, noise: Tensor) -> Tensor:
        h = t1 - t0
        kick = math.sqrt(h * self.w(t0 + h / 2)) * noise
        ahead = x + h * drift + kick
        return x + h / 2 * (drift + self.drift(field(ahead, at(x, t1)), ahead, t1)) + kick
