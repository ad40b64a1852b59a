from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class RK4ThreeEighths(RungeKutta):
    """Kutta's 3/8 rule (1901), which torchdiffeq and SiT's scripts call rk4: four evaluations per step, order 4."""

    order = 4
    c = (1 / 3, 2 / 3, 1)
    a = ((1 / 3,), (-1 / 3, 1), (1, -1, 1))
    b = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
