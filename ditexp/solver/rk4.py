from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class RK4(RungeKutta):
    """The classic Runge-Kutta method (Kutta 1901): four evaluations per step, order 4.

    torchdiffeq's "rk4" is Kutta's 3/8 rule, `rk4_38`: the same order, but other digits.
    """

    order = 4
    c = (1 / 2, 1 / 2, 1)
    a = ((1 / 2,), (0, 1 / 2), (0, 0, 1))
    b = (1 / 6, 1 / 3, 1 / 3, 1 / 6)
