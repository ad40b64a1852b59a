"""What all schedules share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from ditexp.checks import whole

MAX_STEPS = 100_000


class AnySchedule(ABC):
    """A schedule that is the same for every model, solver and guidance, unless it overrides `tuned_to`."""

    @abstractmethod
    def grid(self) -> Tensor:
        """float64 (steps + 1,), strictly increasing from exactly 0 to exactly 1, or where a published sampler stops.

        A sample is x at the last point, whatever it is.
        """

    def tuned_to(self, flow: dict) -> Self:
        """The schedule that is used for a flow: this one, whatever the flow is."""
        return self


@dataclass(frozen=True)
class Steps(AnySchedule):
    """A grid of `steps` intervals (the scripts of SiT count its points, one more)."""

    steps: int

    def __post_init__(self) -> None:
        whole("steps", self.steps, minimum=1, maximum=MAX_STEPS)


@dataclass(frozen=True)
class Warped(Steps):
    """A uniform grid bent by `warp`."""

    @abstractmethod
    def warp(self, u: Tensor) -> Tensor:
        """u (steps + 1,) float64, uniform from 0 to 1 -> t, strictly increasing from exactly 0 to exactly 1."""

    def grid(self) -> Tensor:
        return self.warp(torch.linspace(0, 1, self.steps + 1, dtype=torch.float64))


def to_unit_interval(t: Tensor) -> Tensor:
    """t shifted and scaled to run from exactly 0 to exactly 1."""
    return (t - t[0]) / (t[-1] - t[0])
