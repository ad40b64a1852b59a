from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.embedded import EmbeddedPair
from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Bosh3(EmbeddedPair):
    """Bogacki & Shampine's 3(2) pair (1989): three evaluations per step, accepted or rejected, and one at the start."""

    order = 3
    c = (1 / 2, 3 / 4, 1)
    a = ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9))
    e = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)


@dataclass(frozen=True)
class Bosh3Fixed(RungeKutta):
    """The higher-order solution of that pair, on the steps of the grid: three evaluations per step, order 3."""

    order, c, a, b = Bosh3.order, Bosh3.c[:-1], Bosh3.a[:-1], Bosh3.a[-1]
