"""Paths x = alpha data + sigma noise that networks were trained on, at the times of ditexp's flow.

At flow time t = alpha / (alpha + sigma) the flow has the path's ratio of data to noise, and its x is the path's divided
by alpha + sigma. All numbers are float64: t is close to an end where a path is far from one.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.checks import choice
from ditexp.variance_preserving import cosine_betas, flow_times, linear_betas

BETAS = {"linear": linear_betas, "cosine": cosine_betas}

# A fractional index this close to an integer is that integer: float32 rounds t by up to 3e-8, which in 1000 steps is up
# to 4e-5 of an index.
CLOSE = 2e-4


class Path(ABC):
    """A path, and the times at which a network knows it.

    start, end: the flow times between which the network is evaluated. Beyond them its velocity stays as it is there.
    """

    @property
    @abstractmethod
    def start(self) -> float: ...

    @property
    @abstractmethod
    def end(self) -> float: ...

    @property
    @abstractmethod
    def identity(self) -> dict:
        """JSON-able facts that determine the path."""

    @abstractmethod
    def time(self, t: Tensor) -> Tensor:
        """The network's time at flow times t, float64."""

    @abstractmethod
    def scale(self, t: Tensor) -> Tensor:
        """alpha + sigma at flow times t, float64."""


class VariancePreserving(Path):
    """A path with alpha^2 + sigma^2 = 1."""

    def scale(self, t: Tensor) -> Tensor:
        return (t.square() + (1 - t).square()).rsqrt()


@dataclass(frozen=True)
class Discrete(VariancePreserving):
    """The indices steps - 1 (noise) to 0 (data) of a discrete diffusion; DiT's has linear betas and 1000 steps.

    Between two indices log abar is interpolated, so that times of any schedule have a fractional index.
    betas: linear or cosine.
    """

    betas: str = "linear"
    steps: int = 1000
    times: Tensor = field(init=False, repr=False, compare=False)  # of the flow, of each index
    ends: tuple[float, float] = field(init=False, repr=False, compare=False)  # start and end, read off the tensor once

    def __post_init__(self) -> None:
        choice("betas", self.betas, BETAS)
        times = flow_times(BETAS[self.betas](self.steps))
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "ends", (times[-1].item(), times[0].item()))

    @property
    def identity(self) -> dict:
        return {"path": "discrete", "betas": self.betas, "steps": self.steps}

    @property
    def start(self) -> float:
        return self.ends[0]

    @property
    def end(self) -> float:
        return self.ends[1]

    def time(self, t: Tensor) -> Tensor:
        levels, level = depth(self.times).to(t.device), depth(t)
        above = torch.searchsorted(levels, level).clamp(1, self.steps - 1)
        below = above - 1
        index = below + (level - levels[below]) / (levels[above] - levels[below])
        nearest = index.round()
        return torch.where((index - nearest).abs() < CLOSE, nearest, index)


def depth(t: Tensor) -> Tensor:
    """-log abar at flow times t."""
    return ((1 - t) / t).square().log1p()


@dataclass(frozen=True)
class Continuous(Path):
    """A path whose time runs from 0 (noise) to 1 (data). first, last: the network's times; see `Path`."""

    first: float = 0.0
    last: float = 1.0

    name: ClassVar[str]

    @property
    def identity(self) -> dict:
        return {"path": self.name, "first": self.first, "last": self.last}

    @property
    def start(self) -> float:
        return self.flow_time(self.first)

    @property
    def end(self) -> float:
        return self.flow_time(self.last)

    @abstractmethod
    def flow_time(self, time: float) -> float:
        """t at a time of the path."""


class Linear(Continuous):
    """The flow's own path: alpha = t, sigma = 1 - t."""

    name = "linear"

    def flow_time(self, time: float) -> float:
        return time

    def time(self, t: Tensor) -> Tensor:
        return t

    def scale(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)


class Rotation(Continuous, VariancePreserving):
    """alpha = sin(angle), sigma = cos(angle), with an angle that is a smooth function of the path's time."""

    @abstractmethod
    def speed(self, t: Tensor) -> Tensor:
        """The derivative of the angle with respect to the path's time, at flow times t."""


class Trigonometric(Rotation):
    """alpha = sin(pi t / 2), sigma = cos(pi t / 2) in the path's time (Albergo & Vanden-Eijnden 2023); SiT's GVP."""

    name = "trigonometric"

    def flow_time(self, time: float) -> float:
        alpha, sigma = math.sin(math.pi / 2 * time), math.cos(math.pi / 2 * time)
        return alpha / (alpha + sigma)

    def time(self, t: Tensor) -> Tensor:
        return torch.atan2(t, 1 - t) * (2 / math.pi)

    def speed(self, t: Tensor) -> Tensor:
        return torch.full_like(t, math.pi / 2)


class Exponential(Rotation):
    """The VP SDE of Song et al. 2021 (arXiv 2011.13456, equation 33) with beta from 0.1 to 20; SiT's VP.

    log alpha = -(19.9 r^2 / 4 + 0.1 r / 2), where r = 1 - the path's time.
    """

    name = "vp"
    quadratic, linear = 19.9 / 4, 0.1 / 2

    def flow_time(self, time: float) -> float:
        r = 1 - time
        exponent = self.quadratic * r**2 + self.linear * r  # -log alpha
        alpha, sigma = math.exp(-exponent), math.sqrt(-math.expm1(-2 * exponent))
        return alpha / (alpha + sigma)

    def time(self, t: Tensor) -> Tensor:
        exponent = depth(t) / 2
        # The positive root of quadratic r^2 + linear r = exponent, in the form without a difference.
        return 1 - 2 * exponent / (self.linear + (self.linear**2 + 4 * self.quadratic * exponent).sqrt())

    def speed(self, t: Tensor) -> Tensor:
        r = 1 - self.time(t)
        return t / (1 - t) * (2 * self.quadratic * r + self.linear)
