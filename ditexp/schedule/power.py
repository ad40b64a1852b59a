from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.schedule.base import Warped, positive


@dataclass(frozen=True)
class Power(Warped):
    """t = u^exponent: above 1 short steps near the noise, below 1 near the data; 2 is `quadratic`."""

    exponent: float = 2.0

    def __post_init__(self):
        super().__post_init__()
        positive(self, "exponent")

    def warp(self, u: Tensor) -> Tensor:
        return u**self.exponent
