"""What all schedules share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_STEPS = 100_000


@dataclass(frozen=True)
class Steps:
    """A grid of `steps` intervals (SiT's scripts count points, one more)."""

    steps: int

    def __post_init__(self):
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps={self.steps}: give a whole number of at least 1 (the number of intervals)")
        if self.steps > MOST_STEPS:
            raise ValueError(f"steps={self.steps}: give a whole number of at most {MOST_STEPS:,}")

    def tuned_to(self, flow: dict) -> Steps:
        """The schedule that is used for a flow: this one, whatever the flow is."""
        return self


@dataclass(frozen=True)
class Warped(Steps):
    """A uniform grid bent by `warp`."""

    def warp(self, u: Tensor) -> Tensor:
        """u (steps + 1,) float64, uniform from 0 to 1 -> t, strictly increasing from exactly 0 to exactly 1."""
        raise NotImplementedError

    def grid(self) -> Tensor:
        return self.warp(torch.linspace(0, 1, self.steps + 1, dtype=torch.float64))


def to_unit_interval(t: Tensor) -> Tensor:
    """Moved and stretched to run from exactly 0 to exactly 1."""
    return (t - t[0]) / (t[-1] - t[0])


def positive(schedule: Steps, name: str) -> None:
    """Raise ValueError unless a setting is a finite number above 0."""
    value = getattr(schedule, name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ValueError(f"schedule.{name}={value}: give a number above 0")
