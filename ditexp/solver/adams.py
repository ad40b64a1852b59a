"""Adams methods: polynomials through velocities of earlier steps, whose integral is the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, at
from ditexp.solver.euler import Euler
from ditexp.solver.heun import Heun
from ditexp.solver.kutta3 import Kutta3
from ditexp.solver.runge_kutta import weighted

# One order less than the method's is enough for the few first steps.
STARTERS = {2: Euler(), 3: Heun(), 4: Kutta3()}


@dataclass(frozen=True)
class AdamsBashforth(FixedStep):
    """The explicit Adams method of order 2, 3 or 4, on any grid (Hairer, Norsett & Wanner I, section III.5).

    One evaluation a step. The first order - 1 steps, where the past is too short, are taken by a Runge-Kutta method of
    one order less (Euler, Heun, Kutta), whose single steps are good enough: 0, 2 or 6 evaluations more in all.
    """

    order: int = 2

    def __post_init__(self):
        if self.order not in STARTERS:
            raise ValueError(f"solver.order={self.order}: choose from {', '.join(map(str, STARTERS))}")

    @property
    def memory(self) -> int:
        """How many velocities a step needs."""
        return self.order

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        times, velocities = deque(maxlen=self.memory), deque(maxlen=self.memory)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            times.append(t0)
            velocities.append(field(x, at(x, t0)))
            if len(times) < self.memory:
                return STARTERS[self.order].advance(field, x, t0, t1, velocities[-1])
            return self.advance(field, x, times, velocities, t1)

        return step

    def advance(
        self, field: VelocityField, x: Tensor, times: Sequence[float], velocities: Sequence[Tensor], t1: float
    ) -> Tensor:
        """x (B, ...) at the last of the times -> x at t1."""
        return x + weighted(integral_weights(times, times[-1], t1), velocities)


def integral_weights(times: Sequence[float], t0: float, t1: float) -> list[float]:
    """Weights w with sum w_j f(t_j) = the integral from t0 to t1 of the polynomial through the points (t_j, f(t_j)).

    They are those with which powers of s = (t - t0) / (t1 - t0) come out right: sum w_j s_j^m = (t1 - t0) / (m + 1).
    """
    h = t1 - t0
    s = (torch.tensor(times, dtype=torch.float64) - t0) / h
    moments = h / torch.arange(1, len(s) + 1, dtype=torch.float64)
    return torch.linalg.solve(torch.linalg.vander(s).T, moments).tolist()


@dataclass(frozen=True)
class AdamsBashforthMoulton(AdamsBashforth):
    """The Adams predictor-corrector of order 2, 3 or 4, on any grid: predict, evaluate, correct, evaluate (PECE).

    Two evaluations a step. The prediction is Adams-Bashforth's of one order less, which the correction, through the
    predicted velocity too, raises to `order` (Hairer, Norsett & Wanner I, section III.1). The first order - 2 steps are
    a Runge-Kutta method's.
    """

    order: int = 3

    @property
    def memory(self) -> int:
        return self.order - 1

    def advance(
        self, field: VelocityField, x: Tensor, times: Sequence[float], velocities: Sequence[Tensor], t1: float
    ) -> Tensor:
        predicted = super().advance(field, x, times, velocities, t1)
        weights = integral_weights([*times, t1], times[-1], t1)
        return x + weighted(weights, [*velocities, field(predicted, at(x, t1))])
