from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Heun3(RungeKutta):
    """Heun's method of order 3 (1900): three evaluations per step."""

    order = 3
    c = (1 / 3, 2 / 3)
    a = ((1 / 3,), (0, 2 / 3))
    b = (1 / 4, 0, 3 / 4)
