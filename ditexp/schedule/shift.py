from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped


@dataclass(frozen=True)
class Shift(Warped):
    """A uniform grid of noise levels sigma = 1 - t, shifted towards the noise, the more the higher the resolution.

    sigma -> s sigma / (1 + (s - 1) sigma) (Esser et al. 2024, arXiv 2403.03206, equation 23), that is t = u / (u + s
    (1 - u)). shift: s; 1 is the uniform grid, Stable Diffusion 3 uses 3; below 1 there are more steps near the data.
    """

    shift: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.shift", self.shift, above=0)

    def warp(self, u: Tensor) -> Tensor:
        return u / (u + self.shift * (1 - u))
