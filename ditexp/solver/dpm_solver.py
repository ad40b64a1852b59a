"""DPM-Solver++ for rectified flow (Lu et al. 2022, arXiv 2211.01095)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import at
from ditexp.solver.log_snr import LogSNR, Point, exact_moments, log_snr_at, time_at


@dataclass(frozen=True)
class DPMSolver(LogSNR):
    """What both forms share. variant: heun integrates every polynomial exactly; midpoint is as published.

    Midpoint has J_0 / 2 for J_1 where there is one point beside the start, which keeps order 2 since both are
    h / 2 + O(h^2); where there are two, `published_second_moment` for J_2 = h / 3 + O(h^2).
    """

    variants: ClassVar[tuple[str, ...]] = ("midpoint", "heun")

    variant: str = "midpoint"

    def published_second_moment(self, j: Sequence[float]) -> float:
        raise NotImplementedError

    def moments(self, h: float, count: int) -> Sequence[float]:
        if self.variant == "heun" or not count:
            return super().moments(h, count)
        j = exact_moments(h, count)
        return [j[0] / 2] if count == 1 else [j[1], self.published_second_moment(j)]


@dataclass(frozen=True)
class DPMSolverMultistep(DPMSolver):
    """DPM-Solver++(2M) and (3M): a polynomial through the predicted data of earlier steps. One evaluation a step.

    The first step is Euler's and the second of order 2 at most, for want of a past; the last, to t = 1, is Euler's.
    From t = 0 the method takes a step longer to start, since the point there is of no use.

    3M (midpoint) has J_2 / 2 for J_2, and with it order 2 on any grid: the authors' code, and diffusers' after it,
    multiplies the second divided difference by what belongs to the second derivative, which is twice that. Their 3S
    has the factor of two. heun mends it.

    diffusers' DPMSolverMultistepScheduler with use_flow_sigmas is 2M in both variants, and 3M in midpoint whatever its
    solver_type. With fewer than 15 steps it takes the last but one with order 2, which a step here cannot know to be
    that.
    """

    def published_second_moment(self, j: Sequence[float]) -> float:
        return j[2] / 2

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        past: deque[Point] = deque(maxlen=self.nominal_order - 1)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            v = field(x, at(x, t0))
            here = Point(log_snr_at(t0), x + (1 - t0) * v)
            more = self.beyond_euler(here, past, log_snr_at(t1))
            past.appendleft(here)
            return x + (t1 - t0) * v + t1 * more

        return step


@dataclass(frozen=True)
class DPMSolverSinglestep(DPMSolver):
    """DPM-Solver++(2S) and (3S): a polynomial through points within the step. Two or three evaluations a step.

    The points are at 1/2, or 1/3 and 2/3, of the step in log-SNR. As t0 -> 0 they move to t0, and as t1 -> 1 to t1,
    where D = x: in both limits the step is Euler's, which is what the steps at either end are, with one evaluation.

    3S (midpoint) has 2/3 J_1 for J_2, so that the first of the points within has no weight, and keeps order 3 since
    that too is h / 3 + O(h^2).

    diffusers' DPMSolverSinglestepScheduler is the same, but that the points within are points of its grid: N of its
    steps are N evaluations. The authors' code has J_1 for the second point within of 3S where this has J_0 / 2.
    """

    def published_second_moment(self, j: Sequence[float]) -> float:
        return 2 / 3 * j[1]

    # Not `step`, which step doubling would take for a method of one order wherever it is: it is Euler's at the ends.
    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            v = field(x, at(x, t0))
            start, within = Point(log_snr_at(t0), x + (1 - t0) * v), []
            h = log_snr_at(t1) - start.log_snr

            def reached(t: float) -> Tensor:
                return x + (t - t0) * v + t * self.beyond_euler(start, within, log_snr_at(t))

            if math.isfinite(h):
                for part in range(1, self.nominal_order):
                    t = time_at(start.log_snr + part / self.nominal_order * h)
                    inner = reached(t)
                    within.append(Point(log_snr_at(t), inner + (1 - t) * field(inner, at(x, t))))
            return reached(t1)

        return step
