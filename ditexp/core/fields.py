"""Velocity fields, and the functions that solvers are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from torch import Tensor

# The number of a step, counted from 0 -> standard normal noise like x, drawn for each sample on its own.
StepNoise = Callable[[int], Tensor]


# x (B, ...) and its time -> x on the constraint (inpainting).
Projection = Callable[[Tensor, float], Tensor]


class VelocityField(Protocol):
    """All that a solver sees of the model: the velocity of a batch of samples."""

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        """v like x, at x (B, ...) and t in [0, 1], 0 = noise, 1 = data: one time of all samples, or (B,).

        A time that is a number is known to the CPU: no GPU is waited for to decide on guidance. It counts as rounded to
        the precision of x.

        For a solver that uses the variance, v and the output of the variance head, stacked along the channels.
        """

    def take(self, rows: Tensor) -> VelocityField:
        """The field of some of the batch's samples. rows: int64 indices into the batch that this field is for."""


@runtime_checkable
class GuidedVelocity(VelocityField, Protocol):
    """A field that also does what published samplers do with guidance beyond evaluating it at x and t."""

    def of_step(self, start: float) -> VelocityField:
        """The field during the step that starts at this time, for guidance that is decided once a step."""

    def doubled(self, x: Tensor, t: float) -> Tensor:
        """The velocity (2 B, ...) of a script's doubled batch at x (B, ...) and t: the guided one, and below it
        the null half's, which is the same in the guided channels and unconditional in the others."""


@runtime_checkable
class FlowMap(VelocityField, Protocol):
    """A field that also knows where its flow leads."""

    def average(self, x: Tensor, t: float, until: float) -> Tensor:
        """The average velocity like x between the times t and `until`, both of all samples: the flow that is at x at t
        is at x + (until - t) average at `until`."""
