from __future__ import annotations

from dataclasses import dataclass

from ditexp.solver.runge_kutta import RungeKutta


@dataclass(frozen=True)
class Ralston(RungeKutta):
    """Ralston's method of order 2 (1962), the one with the smallest error bound: two evaluations per step."""

    order = 2
    c = (2 / 3,)
    a = ((2 / 3,),)
    b = (1 / 4, 3 / 4)
