from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped
from ditexp.schedule.shift import Shift


@dataclass(frozen=True)
class Flux(Warped):
    """`shift` by e^mu, where mu grows with the number of tokens, as in FLUX.1 ("dynamic shifting" in diffusers).

    mu is linear in the tokens: 0.5 at 256 (256 px), 1.15 at 4,096 (1024 px); a token is 16 x 16 pixels.
    resolution: the side of the square image, in pixels.
    """

    resolution: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.resolution", self.resolution, above=0)

    def warp(self, u: Tensor) -> Tensor:
        tokens = (self.resolution / 16) ** 2
        mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
        return Shift(self.steps, math.exp(mu)).warp(u)
