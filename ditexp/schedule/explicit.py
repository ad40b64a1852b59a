from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ditexp.schedule.base import AnySchedule
from ditexp.terminal.notices import notice


@dataclass(frozen=True)
class Explicit(AnySchedule):
    """A grid given point by point. points: strictly increasing from exactly 0 (noise) to exactly 1 (data)."""

    points: Sequence[float]

    def __post_init__(self) -> None:
        points = tuple(map(float, self.points))
        object.__setattr__(self, "points", points)
        rising = len(points) > 1 and all(a < b for a, b in pairwise(points))
        if not (rising and points[0] == 0 and points[-1] == 1 and all(map(math.isfinite, points))):
            raise ValueError(
                f"schedule.points={list(points)}: give times that rise from 0 (noise) to 1 (data), as [0,0.3,0.7,1]"
            )
        notice(
            f"schedule=explicit has {len(points) - 1} step{'s' * (len(points) > 2)} of its own: "
            "steps does not act on it"
        )

    def grid(self) -> Tensor:
        return torch.tensor(self.points, dtype=torch.float64)
