from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped


@dataclass(frozen=True)
class Beta(Warped):
    """Quantiles of the Beta(alpha, beta) distribution (Lee et al. 2024, "Beta Sampling is All You Need", 2407.12173).

    Both are 0.6 in the paper, which gives short steps near both ends. A smaller alpha gives more steps near the noise,
    a smaller beta near the data. diffusers and ComfyUI use quantiles of sigma = 1 - t, which swaps alpha and beta.
    """

    alpha: float = 0.6
    beta: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.alpha", self.alpha, above=0)
        number("schedule.beta", self.beta, above=0)

    def warp(self, u: Tensor) -> Tensor:
        from scipy.special import betaincinv

        return torch.from_numpy(betaincinv(self.alpha, self.beta, u.numpy()))
