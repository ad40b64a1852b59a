from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.embedded import EmbeddedPair
from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Bosh3(EmbeddedPair):
    """Bogacki & Shampine's 3(2) pair (1989): three evaluations a step, good or bad, and one before the first."""

    order = 3
    c = (1 / 2, 3 / 4, 1)
    a = ((1 / 2,), (0, 3 / 4), (2 / 9, 1 / 3, 4 / 9))
    e = (-5 / 72, 1 / 12, 1 / 9, -1 / 8)


@dataclass(frozen=True)
class Bosh3Fixed(RungeKutta):
    """The solution of that pair over the steps of the grid: three evaluations a step, order 3."""

    order, c, a, b = Bosh3.order, Bosh3.c[:-1], Bosh3.a[:-1], Bosh3.a[-1]
