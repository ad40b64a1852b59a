from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.schedule.base import Warped, to_unit_interval


@dataclass(frozen=True)
class Cosine(Warped):
    """t = sin^2(pi u / 2): short steps near both ends.

    The cosine schedule of Nichol & Dhariwal 2021 read from noise to data. offset: their s (0.008 in the paper),
    u -> (u + s) / (1 + s), after which the ends are brought back to exactly 0 and 1.
    """

    offset: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.offset < 1:
            raise ValueError(f"schedule.offset={self.offset}: give a number in [0, 1)")

    def warp(self, u: Tensor) -> Tensor:
        return to_unit_interval(torch.sin(math.pi / 2 * (u + self.offset) / (1 + self.offset)) ** 2)
