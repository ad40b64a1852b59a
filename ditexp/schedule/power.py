from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped


@dataclass(frozen=True)
class Power(Warped):
    """t = u^exponent: above 1 short steps near the noise, below 1 near the data; 2 is `quadratic`."""

    exponent: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.exponent", self.exponent, above=0)

    def warp(self, u: Tensor) -> Tensor:
        return u**self.exponent
