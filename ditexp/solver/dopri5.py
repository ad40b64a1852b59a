from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.embedded import EmbeddedPair
from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Dopri5(EmbeddedPair):
    """Dormand & Prince's 5(4) pair (1980; Hairer, Norsett & Wanner I, table II.5.2).

    Six evaluations per step, accepted or rejected, and one at the start.
    """

    order = 5
    c = (1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
    a = (
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )
    e = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


@dataclass(frozen=True)
class Dopri5Fixed(RungeKutta):
    """The higher-order solution of that pair, on the steps of the grid: six evaluations per step, order 5."""

    order, c, a, b = Dopri5.order, Dopri5.c[:-1], Dopri5.a[:-1], Dopri5.a[-1]
