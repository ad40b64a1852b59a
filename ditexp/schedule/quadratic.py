from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.schedule.base import Warped


@dataclass(frozen=True)
class Quadratic(Warped):
    """t = u^2: short steps near the noise, long ones near the data."""

    def warp(self, u: Tensor) -> Tensor:
        return u**2
