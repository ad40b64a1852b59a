from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import number
from ditexp.schedule.base import Warped, to_unit_interval


@dataclass(frozen=True)
class Cosine(Warped):
    """t = sin^2(pi u / 2): short steps near both ends.

    The cosine schedule of Nichol & Dhariwal 2021, read from noise to data. offset: their s (0.008 in the paper),
    u -> (u + s) / (1 + s); afterwards the ends are moved back to exactly 0 and 1.
    """

    offset: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.offset", self.offset, minimum=0, below=1)

    def warp(self, u: Tensor) -> Tensor:
        return to_unit_interval(torch.sin(math.pi / 2 * (u + self.offset) / (1 + self.offset)) ** 2)
