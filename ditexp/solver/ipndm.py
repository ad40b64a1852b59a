from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, at
from ditexp.solver.runge_kutta import weighted

# Adams and Bashforth's for equal steps, the latest velocity first.
WEIGHTS = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class IPNDM(FixedStep):
    """iPNDM: the Adams-Bashforth weights of equal steps, whatever the grid is. One evaluation a step.

    Liu et al. 2022 (PNDM, arXiv 2202.09778) with the start of Zhang & Chen 2022 (arXiv 2204.13902): the first steps
    are of orders 1, 2 and 3. It combines velocities where those papers, on paths of variance 1, combine noises: the
    two differ, and noises would need 1 / t at t = 0. The first step, Euler's, and steps that change in length leave
    an error of order 2, whatever the nominal order.

    DEIS of the same paper is not here: its polynomials in t, of velocities, with the exact weights for steps of any
    lengths are `AdamsBashforth`, since dx/dt = v has no linear part to be solved for; and those in log-SNR, of the
    noise, are infinite at t = 0, where `DPMSolverMultistep` has those of the data.

    nominal_order: velocities that are combined.
    """

    order = 2

    nominal_order: int = 4

    def __post_init__(self):
        if self.nominal_order not in (2, 3, 4):
            raise ValueError(f"solver.nominal_order={self.nominal_order}: choose from 2, 3, 4")

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        velocities: deque[Tensor] = deque(maxlen=self.nominal_order)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            velocities.appendleft(field(x, at(x, t0)))
            return x + (t1 - t0) * weighted(WEIGHTS[len(velocities) - 1], velocities)

        return step
