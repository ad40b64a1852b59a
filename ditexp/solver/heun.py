from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Heun(RungeKutta):
    """Heun's trapezoidal method (1900): two evaluations per step, order 2.

        x <- x + h/2 (k_1 + k_2),    k_1 = v(x, t),    k_2 = v(x + h k_1, t + h)

    correct_last: false makes the step that ends at t = 1 a step of Euler's method, so that N steps cost 2 N - 1
    evaluations and v is never evaluated at t = 1, as in EDM (Karras et al. 2022, algorithm 1) and REPA. The order
    stays 2.
    """

    correct_last: bool = True

    order = 2
    c = (1,)
    a = ((1,),)
    b = (1 / 2, 1 / 2)

    def advance(self, field: VelocityField, x: Tensor, t0: float | Tensor, t1: float | Tensor, k1: Tensor) -> Tensor:
        if not self.correct_last and t1 == 1:
            return x + (t1 - t0) * k1
        return super().advance(field, x, t0, t1, k1)
