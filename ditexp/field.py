"""Velocity fields as a sampler hands them to its solver."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ditexp.core import FlowMap, GuidedVelocity, VelocityField
from ditexp.meter import Meter
from ditexp.values import number_like


@dataclass(frozen=True)
class CountedField:
    """A field whose evaluations the meter counts, one for each sample."""

    velocity: VelocityField
    meter: Meter

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        self.meter.cost.velocity_rows += len(x)
        self.meter.times = t
        return self.velocity(x, t)

    def average(self, x: Tensor, t: float, until: float) -> Tensor:
        assert isinstance(self.velocity, FlowMap), "bind checks it"
        self.meter.cost.velocity_rows += len(x)
        self.meter.times = t
        return self.velocity.average(x, t, until)

    def take(self, rows: Tensor) -> CountedField:
        return CountedField(self.velocity.take(rows), self.meter)

    @cached_property
    def guided(self) -> GuidedVelocity | None:
        """The field, if it is guided; asked once, since a check of a protocol's members takes long."""
        return self.velocity if isinstance(self.velocity, GuidedVelocity) else None

    def of_step(self, start: float) -> CountedField:
        if self.guided is None or (inner := self.guided.of_step(start)) is self.velocity:
            return self
        return replace(self, velocity=inner)

    def doubled(self, x: Tensor, t: float) -> Tensor:
        if self.guided is None:
            return torch.cat([self(x, t)] * 2)
        self.meter.cost.velocity_rows += len(x)
        self.meter.times = t
        return self.guided.doubled(x, t)


@dataclass(frozen=True)
class ReversedField:
    """dx/dt = -v(x, 1 - t), the flow from data at t = 0 to noise at t = 1.

    It is a rectified flow, too, so every solver of the ODE integrates it as it is.
    """

    velocity: VelocityField

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return -self.velocity(x, 1 - t if isinstance(t, Tensor) else (1 - number_like(x, t)).item())

    def take(self, rows: Tensor) -> ReversedField:
        return ReversedField(self.velocity.take(rows))
