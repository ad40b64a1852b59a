"""DPM-Solver++ for rectified flow (Lu et al. 2022, arXiv 2211.01095).

In the notation of the paper, alpha_t = t and sigma_t = 1 - t, the model predicts data D = x + (1 - t) v, lambda is the
log-SNR, and a step from s to t has the length h = lambda_t - lambda_s.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import Step
from ditexp.solver.log_snr import LogSNR, Point, exact_moments, log_snr_at, time_at


@dataclass(frozen=True)
class DPMSolver(LogSNR):
    """What the multistep and the singlestep form share.

    variant: heun integrates every polynomial exactly; midpoint is as published. Midpoint has J_0 / 2 in place of J_1
    if there is one point beside the start, which keeps order 2 since both are h / 2 + O(h^2); if there are two, it has
    `published_second_moment` in place of J_2 = h / 3 + O(h^2). log_snr.py defines J_m.
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
    """DPM-Solver++(2M) and (3M): a polynomial through the predicted data of earlier steps. One evaluation per step.

    With D_0, D_1, D_2 the predictions at the start of this step, of the last and of the one before, h_1 and h_2 the
    lengths of those two, r_0 = h_1 / h and r_1 = h_2 / h, the midpoint variant is

        2M:  D = (1 + 1 / (2 r_0)) D_0 - 1 / (2 r_0) D_1
             x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D

        3M:  D1_0 = (D_0 - D_1) / r_0,    D1_1 = (D_1 - D_2) / r_1
             D1 = D1_0 + r_0 / (r_0 + r_1) (D1_0 - D1_1),    D2 = (D1_0 - D1_1) / (r_0 + r_1)
             x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D_0 + alpha_t ((e^-h - 1) / h + 1) D1
                   - alpha_t ((e^-h - 1 + h) / h^2 - 1/2) D2

    `beyond_euler` computes the same from moments, so that every step is finite at t = 0 and 1. The first step has no
    history and is Euler's, the second has order 2 at most, and the last, to t = 1, is Euler's. From t = 0 the method
    needs one step more to start, since the point there is unusable.

    3M (midpoint) has J_2 / 2 for J_2, and hence order 2 on any grid: the authors' code, and diffusers after it,
    multiplies the second divided difference by the coefficient of the second derivative, which is twice as large.
    Their 3S has the factor of two. The heun variant corrects it.

    diffusers' DPMSolverMultistepScheduler with use_flow_sigmas is 2M in both variants, and 3M in midpoint whatever its
    solver_type. With fewer than 15 steps it gives its last step but one order 2; a step here cannot know that it is
    that one.
    """

    @property
    def history(self) -> int:
        return self.nominal_order - 1

    def published_second_moment(self, j: Sequence[float]) -> float:
        return j[2] / 2

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        past: deque[Point] = deque(maxlen=self.history)

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            v = field(x, t0)
            here = Point(log_snr_at(t0), x + (1 - t0) * v)
            more = self.beyond_euler(here, past, log_snr_at(t1))
            past.appendleft(here)
            return x + (t1 - t0) * v + t1 * more

        return step


@dataclass(frozen=True)
class DPMSolverSinglestep(DPMSolver):
    """DPM-Solver++(2S) and (3S): a polynomial through points within the step. Two or three evaluations per step.

    The points are at r = 1/2, or r_1 = 1/3 and r_2 = 2/3, of the step in log-SNR. With D_0 the prediction at the start
    and s_r the time at lambda_s + r h, the midpoint variant is

        2S:  u = sigma_{s_r} / sigma_s x_s - alpha_{s_r} (e^(-r h) - 1) D_0
             x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) [(1 - 1 / (2 r)) D_0 + 1 / (2 r) D(u, s_r)]

        3S:  u_1 = sigma_{s_1} / sigma_s x_s - alpha_{s_1} (e^(-r_1 h) - 1) D_0
             u_2 = sigma_{s_2} / sigma_s x_s - alpha_{s_2} (e^(-r_2 h) - 1) [D_0 + r_2 / (2 r_1) (D(u_1, s_1) - D_0)]
             x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D_0
                   + alpha_t / r_2 ((e^-h - 1) / h + 1) (D(u_2, s_2) - D_0)

    As t0 -> 0 the points move to t0, and as t1 -> 1 to t1, where D = x. In both limits the step is Euler's: so are the
    steps at either end, with one evaluation each.

    3S (midpoint) has 2/3 J_1 for J_2, so that the first inner point has no weight in the last line; it keeps order 3
    since that too is h / 3 + O(h^2).

    diffusers' DPMSolverSinglestepScheduler is the same, except that its inner points are points of its grid: N of its
    steps are N evaluations. In u_2, the authors' code has J_1 where this has J_0 / 2.
    """

    def published_second_moment(self, j: Sequence[float]) -> float:
        return 2 / 3 * j[1]

    # Not a OneStep, since step doubling requires one order everywhere: the steps at the ends are Euler's.
    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            v = field(x, t0)
            start = Point(log_snr_at(t0), x + (1 - t0) * v)
            inner: list[Point] = []
            h = log_snr_at(t1) - start.log_snr

            def state_at(t: float) -> Tensor:
                return x + (t - t0) * v + t * self.beyond_euler(start, inner, log_snr_at(t))

            if math.isfinite(h):
                for part in range(1, self.nominal_order):
                    t = time_at(start.log_snr + part / self.nominal_order * h)
                    u = state_at(t)
                    inner.append(Point(log_snr_at(t), u + (1 - t) * field(u, t)))
            return state_at(t1)

        return step
