from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Midpoint(RungeKutta):
    """The explicit midpoint method (Runge 1895): two evaluations per step, order 2."""

    order = 2
    c = (1 / 2,)
    a = ((1 / 2,),)
    b = (0, 1)
