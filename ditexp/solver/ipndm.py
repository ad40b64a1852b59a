from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import choice
from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step
from ditexp.solver.runge_kutta import weighted

# The Adams-Bashforth weights of equal steps, for the latest velocity first.
WEIGHTS = (
    (1,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)


@dataclass(frozen=True)
class IPNDM(FixedStep):
    """iPNDM: the Adams-Bashforth weights of equal steps, used on any grid. One evaluation per step.

        x_{n+1} = x_n + (t_{n+1} - t_n) (55 v_n - 59 v_{n-1} + 37 v_{n-2} - 9 v_{n-3}) / 24    (nominal_order = 4)

    Liu et al. 2022 (PNDM, arXiv 2202.09778) with the start of Zhang & Chen 2022 (arXiv 2204.13902): the first steps
    have orders 1, 2 and 3. This combines velocities. Those papers, on variance-preserving paths, combine noises; the
    two differ, and noises would need 1 / t at t = 0. The first step, which is Euler's, and steps that change in length
    leave an error of order 2, whatever the nominal order.

    DEIS of the same paper is not included. With polynomials in t through velocities and the exact weights of unequal
    steps it is `AdamsBashforth`, since dx/dt = v has no linear part to solve exactly. With polynomials in log-SNR
    through noises it is infinite at t = 0; `DPMSolverMultistep` has those through predicted data.

    nominal_order: the number of velocities that are combined.
    """

    order = 2

    nominal_order: int = 4

    def __post_init__(self) -> None:
        choice("solver.nominal_order", self.nominal_order, (2, 3, 4))

    @property
    def history(self) -> int:
        return self.nominal_order - 1

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        velocities: deque[Tensor] = deque(maxlen=self.nominal_order)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            velocities.appendleft(field(x, t0))
            return x + (t1 - t0) * weighted(WEIGHTS[len(velocities) - 1], velocities)

        return step
