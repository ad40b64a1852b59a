from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped, to_unit_interval


@dataclass(frozen=True)
class LinearQuadratic(Warped):
    """Equal short steps in the first half, then ever longer ones (Polyak et al. 2024, "Movie Gen", 2410.13720).

    The first half of the steps covers [0, threshold]. The second half is a parabola that continues at their speed and
    ends at 1. threshold: Movie Gen uses 0.025 at 50 steps, so that its first 25 are the first 25 of a uniform grid of
    1,000; at N steps this would be N / 2000. LTX-Video, Mochi and ComfyUI use 0.025 at any N, so that their first steps
    are 1 / (20 N) long.
    """

    threshold: float = 0.025

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.threshold", self.threshold, above=0, below=0.5)

    def warp(self, u: Tensor) -> Tensor:
        middle = (self.steps // 2) / self.steps
        if not middle:
            return u
        speed = self.threshold / middle
        late = u - middle
        bend = (1 - self.threshold - speed * (1 - middle)) / (1 - middle) ** 2
        t = torch.where(late < 0, speed * u, self.threshold + speed * late + bend * late**2)
        return to_unit_interval(t)
