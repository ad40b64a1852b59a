from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.base import FixedStep, at


@dataclass(frozen=True)
class RK4(FixedStep):
    """The classic Runge-Kutta method (Kutta 1901): four evaluations a step, order 4.

    torchdiffeq's "rk4" is Kutta's other one, the 3/8 rule: equal in order, not in digits.
    """

    order: ClassVar[int] = 4

    def step(self, field: VelocityField, x: Tensor, t0: float, t1: float) -> Tensor:
        h, middle = t1 - t0, (t0 + t1) / 2
        k1 = field(x, at(x, t0))
        k2 = field(x + h / 2 * k1, at(x, middle))
        k3 = field(x + h / 2 * k2, at(x, middle))
        k4 = field(x + h * k3, at(x, t1))
        return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
