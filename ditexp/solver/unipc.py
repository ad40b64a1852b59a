"""UniPC for rectified flow (Zhao et al. 2023, arXiv 2302.04867)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import Step
from ditexp.solver.log_snr import LogSNR, Point, exact_moments, log_snr_at


@dataclass(frozen=True)
class UniPC(LogSNR):
    """UniPC-2 and UniPC-3 with data prediction: UniP predicts x, and UniC corrects it by D at the predicted point.

    With alpha_t = t, sigma_t = 1 - t, predicted data D_m at the log-SNRs lambda_m, D_0 at the start s of the step, and
    r_m = (lambda_m - lambda_s) / h, h = lambda_t - lambda_s,

        UniP-p:  x_t = sigma_t / sigma_s x_s - alpha_t (e^-h - 1) D_0
                       + alpha_t B(h) sum_{m=1}^{p-1} a_m / r_m (D_m - D_0)
        UniC-p:  the same with one more point, D(x_t, t) at r_p = 1

    where the D_m are those of earlier steps and the a_m solve sum_m r_m^(k-1) a_m B(h) = J_k(h), k = 1, 2, ... (J_k as
    in log_snr.py); if there is only one a_m, it is 1/2.

    One evaluation per step, since the next step starts from the D that UniC uses; the sample at t = 1 is a prediction.
    UniC's polynomial has one point more than UniP's, so that UniPC-2 has order 3 on grids smooth in log-SNR. UniP and
    UniC of the first steps have the order that the history allows, and the last step is Euler's.

    variant: B(h). UniP-2 and UniC-1 use B(h) / 2 as the moment J_1, as published; elsewhere B(h) cancels and the
    integral is exact. bh1 is h, and bh2 is J_0 = 1 - e^-h (the e^h - 1 of the paper, for -h). From t = 0, where h is
    infinite, bh2 is a trapezoid in t / (1 - t), while bh1 has no limit: the first step stays uncorrected.

    diffusers' UniPCMultistepScheduler with use_flow_sigmas is the same, except for the last steps: it gives the last
    but one of UniPC-3 order 2 (lower_order_final), and a step here cannot know that it is that one. It starts at
    t = 1e-6, where its bh1 counts D(t_1) - D(0) about 5 times instead of at most once, and bh1 ends in NaN at t = 1.
    """

    variants: ClassVar[tuple[str, ...]] = ("bh1", "bh2")

    variant: str = "bh2"

    @property
    def history(self) -> int:
        return self.nominal_order

    def moments(self, h: float, count: int) -> Sequence[float]:
        if count == 1:
            return [(h if self.variant == "bh1" else exact_moments(h, 0)[0]) / 2]
        return super().moments(h, count)

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        past: deque[Point] = deque(maxlen=self.history)
        predicted: Tensor | float = 0.0  # what UniP added to Euler's step in the last step

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            nonlocal predicted
            v = field(x, t0)
            here = Point(log_snr_at(t0), x + (1 - t0) * v)
            correction: Tensor | float = 0.0
            if past and (math.isfinite(past[0].log_snr) or self.variant == "bh2"):
                correction = t0 * (self.beyond_euler(past[0], [here, *islice(past, 1, None)], here.log_snr) - predicted)
            past.appendleft(here)
            predicted = self.beyond_euler(here, list(islice(past, 1, None)), log_snr_at(t1))
            # Euler's step from x + correction with the D of x, which moves by (1 - t1) / (1 - t0) of the correction.
            return x + (t1 - t0) * v + (1 - t1) / (1 - t0) * correction + t1 * predicted

        return step
