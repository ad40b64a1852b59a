from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Kutta3(RungeKutta):
    """Kutta's method of order 3 (1901), Simpson's rule if v depends on t only: three evaluations per step."""

    order = 3
    c = (1 / 2, 1)
    a = ((1 / 2,), (-1, 2))
    b = (1 / 6, 2 / 3, 1 / 6)
