from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.schedule.base import Warped, positive


@dataclass(frozen=True)
class Beta(Warped):
    """Quantiles of the Beta(alpha, beta) distribution (Lee et al. 2024, "Beta Sampling is All You Need", 2407.12173).

    Both at 0.6, as there: short steps near both ends. A smaller alpha crowds them near the noise, a smaller beta near
    the data. diffusers and ComfyUI take quantiles of sigma = 1 - t, in which alpha and beta change places.
    """

    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self):
        super().__post_init__()
        positive(self, "alpha")
        positive(self, "beta")

    def warp(self, u: Tensor) -> Tensor:
        from scipy.special import betaincinv

        return torch.from_numpy(betaincinv(self.alpha, self.beta, u.numpy()))
