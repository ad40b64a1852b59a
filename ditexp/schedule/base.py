"""What all schedules share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Warped:
    """A uniform grid bent by `warp`. steps: the number of intervals (SiT's scripts count points, one more)."""

    steps: int

    def __post_init__(self):
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps={self.steps}: give a whole number of at least 1 (the number of intervals)")

    def warp(self, u: Tensor) -> Tensor:
        """u (steps + 1,) float64, uniform from 0 to 1 -> t, strictly increasing from exactly 0 to exactly 1."""
        raise NotImplementedError

    def grid(self) -> Tensor:
        return self.warp(torch.linspace(0, 1, self.steps + 1, dtype=torch.float64))
