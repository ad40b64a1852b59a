"""UniPC for rectified flow (Zhao et al. 2023, arXiv 2302.04867)."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import at
from ditexp.solver.log_snr import LogSNR, Point, exact_moments, log_snr_at


@dataclass(frozen=True)
class UniPC(LogSNR):
    """UniPC-2 and UniPC-3 of data prediction: UniP predicts x, and UniC corrects it by D at the predicted point.

    One evaluation a step, since that D also is what the next step starts from; the sample at t = 1 is a prediction.
    The polynomial of UniC has a point more than UniP's, which on grids smooth in log-SNR makes UniPC-2 one of order 3.
    UniP and UniC of the first steps have the order that the past allows, and the last step is Euler's.

    variant: B(h), half of which is the moment J_1 of UniP-2 and UniC-1, as published; elsewhere B(h) cancels and the
    integral is exact. bh1 is h and bh2 J_0 = 1 - e^-h (the e^h - 1 of the paper, for -h). From t = 0, where h is
    infinite, bh2 is a trapezoid in t / (1 - t), while bh1 has no limit: the first step stays uncorrected.

    diffusers' UniPCMultistepScheduler with use_flow_sigmas is the same, but for the last steps: it takes the last but
    one of UniPC-3 with order 2 (lower_order_final), which a step here cannot know. It starts at t = 1e-6, where its bh1
    counts D(t_1) - D(0) about 5 times instead of once at most, and its bh1 ends in NaN at t = 1.
    """

    variants: ClassVar[tuple[str, ...]] = ("bh1", "bh2")

    variant: str = "bh2"

    def moments(self, h: float, count: int) -> Sequence[float]:
        if count == 1:
            return [(h if self.variant == "bh1" else exact_moments(h, 0)[0]) / 2]
        return super().moments(h, count)

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        past: deque[Point] = deque(maxlen=self.nominal_order)
        predicted = 0.0  # what UniP added to the last step of Euler

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            nonlocal predicted
            v = field(x, at(x, t0))
            here = Point(log_snr_at(t0), x + (1 - t0) * v)
            correction = 0.0
            if past and (math.isfinite(past[0].log_snr) or self.variant == "bh2"):
                correction = t0 * (self.beyond_euler(past[0], [here, *islice(past, 1, None)], here.log_snr) - predicted)
            past.appendleft(here)
            predicted = self.beyond_euler(here, list(islice(past, 1, None)), log_snr_at(t1))
            # Euler's step from x + correction with the D of x, which moves by (1 - t1) / (1 - t0) of the correction.
            return x + (t1 - t0) * v + (1 - t1) / (1 - t0) * correction + t1 * predicted

        return step
