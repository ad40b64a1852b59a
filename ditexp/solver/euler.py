from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Euler(RungeKutta):
    """Euler's method, x <- x + h v(x, t): one evaluation per step, order 1."""

    order = 1
    c, a, b = (), (), (1,)
