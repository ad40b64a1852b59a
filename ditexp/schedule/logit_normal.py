from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.schedule.base import Warped, positive, to_unit_interval


@dataclass(frozen=True)
class LogitNormal(Warped):
    """Quantiles of the logit-normal distribution that Stable Diffusion 3 draws its training times from.

    t = sigmoid(mean + std z(u)), z the standard normal's quantiles (Esser et al. 2024, arXiv 2403.03206, section 3.1):
    as many steps where the model was trained most. mean above 0 moves them towards the data.

    tail: the share of u that is cut off at either end before the rest is stretched to [0, 1]. With 0 the quantiles are
    exact, but the first and the last step hardly get shorter as steps get more, and solvers lose their order.
    """

    mean: float = 0.0
    std: float = 1.0
    tail: float = 0.02

    def __post_init__(self):
        super().__post_init__()
        positive(self, "std")
        if not 0 <= self.tail < 0.5:
            raise ValueError(f"schedule.tail={self.tail}: give a number in [0, 0.5)")

    def warp(self, u: Tensor) -> Tensor:
        z = torch.special.ndtri(self.tail + (1 - 2 * self.tail) * u)
        return to_unit_interval(torch.sigmoid(self.mean + self.std * z))
