"""Adams methods: a step is the integral of the polynomial through the velocities of earlier steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import choice
from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.solver.kutta3 import Kutta3
from ditexp.solver.runge_kutta import RungeKutta, weighted

# The first steps of a method of each order. One order less than the method's is enough for these few.
STARTERS: dict[int, RungeKutta] = {2: Euler(), 3: Heun(), 4: Kutta3()}


@dataclass(frozen=True)
class AdamsBashforth(FixedStep):
    """The explicit Adams method of order 2, 3 or 4, on any grid (Hairer, Norsett & Wanner I, section III.5).

        x_{n+1} = x_n + integral from t_n to t_{n+1} of the polynomial through (t_n, v_n), ... (t_{n-p+1}, v_{n-p+1})

    On equal steps of length h, order 2 is x_{n+1} = x_n + h (3/2 v_n - 1/2 v_{n-1}).

    One evaluation per step. The first order - 1 steps have too short a history and are made by a Runge-Kutta method of
    one order less (Euler, Heun, Kutta), which costs 0, 2 or 6 more evaluations in total.
    """

    order: int = 2

    def __post_init__(self) -> None:
        choice("solver.order", self.order, STARTERS)

    @property
    def history(self) -> int:
        return self.order - 1

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        times: deque[float] = deque(maxlen=self.history + 1)
        velocities: deque[Tensor] = deque(maxlen=self.history + 1)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            times.append(t0)
            velocities.append(field(x, t0))
            if len(times) <= self.history:
                return STARTERS[self.order].advance(field, x, t0, t1, velocities[-1])
            return self.advance(field, x, times, velocities, t1)

        return step

    def advance(
        self, field: VelocityField, x: Tensor, times: Sequence[float], velocities: Sequence[Tensor], t1: float
    ) -> Tensor:
        """x (B, ...) at the last of the times -> x at t1."""
        return x + weighted(integral_weights(times, times[-1], t1), velocities)


def integral_weights(times: Sequence[float], t0: float, t1: float) -> list[float]:
    """Weights w with sum_j w_j f(t_j) = the integral from t0 to t1 of the polynomial through the points (t_j, f(t_j)).

    They integrate all powers of s = (t - t0) / (t1 - t0) exactly: sum_j w_j s_j^m = (t1 - t0) / (m + 1).
    """
    h = t1 - t0
    s = (torch.tensor(times, dtype=torch.float64) - t0) / h
    moments = h / torch.arange(1, len(s) + 1, dtype=torch.float64)
    return torch.linalg.solve(torch.linalg.vander(s).T, moments).tolist()


@dataclass(frozen=True)
class AdamsBashforthMoulton(AdamsBashforth):
    """The Adams predictor-corrector of order 2, 3 or 4, on any grid: predict, evaluate, correct, evaluate (PECE).

        predict:  p = Adams-Bashforth of order - 1
        correct:  x_{n+1} = x_n + integral from t_n to t_{n+1} of the polynomial through v(p, t_{n+1}), v_n, ...

    Hairer, Norsett & Wanner I, section III.1. On equal steps of length h, order 3 has
    x_{n+1} = x_n + h (5/12 v(p, t_{n+1}) + 8/12 v_n - 1/12 v_{n-1}).

    Two evaluations per step. The first order - 2 steps are made by a Runge-Kutta method.
    """

    order: int = 3

    @property
    def history(self) -> int:
        return self.order - 2

    def advance(
        self, field: VelocityField, x: Tensor, times: Sequence[float], velocities: Sequence[Tensor], t1: float
    ) -> Tensor:
        predicted = super().advance(field, x, times, velocities, t1)
        weights = integral_weights([*times, t1], times[-1], t1)
        return x + weighted(weights, [*velocities, field(predicted, t1)])
