from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.schedule.base import Warped


@dataclass(frozen=True)
class Uniform(Warped):
    """t = u: equal steps."""

    def warp(self, u: Tensor) -> Tensor:
        return u
