from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped, to_unit_interval


@dataclass(frozen=True)
class LogitNormal(Warped):
    """Quantiles of the logit-normal distribution that Stable Diffusion 3 draws its training times from.

    t = sigmoid(mean + std z(u)), z the standard normal's quantiles (Esser et al. 2024, arXiv 2403.03206, section 3.1):
    steps lie as densely as the training times. A mean above 0 moves them towards the data.

    tail: the fraction of u that is cut off at either end before the rest is stretched to [0, 1]. With 0 the quantiles
    are exact, but more steps hardly shorten the first and the last one, and solvers lose their order.
    """

    mean: float = 0.0
    std: float = 1.0
    tail: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.std", self.std, above=0)
        number("schedule.tail", self.tail, minimum=0, below=0.5)

    def warp(self, u: Tensor) -> Tensor:
        z = torch.special.ndtri(self.tail + (1 - 2 * self.tail) * u)
        return to_unit_interval(torch.sigmoid(self.mean + self.std * z))
