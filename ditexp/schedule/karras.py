from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped, to_unit_interval


@dataclass(frozen=True)
class Karras(Warped):
    """EDM's noise levels (Karras et al. 2022, arXiv 2206.00364, equation 5), read on the rectified-flow path.

    sigma = (sigma_max^(1/rho) + u (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho is the noise per unit of data, which
    at time t is (1 - t) / t; hence t = 1 / (1 + sigma). EDM adds a last step from sigma_min to 0; here the ends are
    moved to exactly 0 and 1.
    """

    rho: float = 7.0
    sigma_min: float = 0.002
    sigma_max: float = 80.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.rho", self.rho, above=0)
        number("schedule.sigma_min", self.sigma_min, above=0)
        number("schedule.sigma_max", self.sigma_max, above=0)
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"schedule.sigma_min={self.sigma_min} is not below schedule.sigma_max={self.sigma_max}: EDM uses "
                "0.002 and 80"
            )

    def warp(self, u: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return to_unit_interval(1 / (1 + (high + u * (low - high)) ** self.rho))
