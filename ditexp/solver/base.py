"""The loop that all fixed-step solvers share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.values import Solution


class FixedStep:
    """A solver that takes one step per interval of the grid.

    order: p such that the error at t = 1 falls as steps^-p on smooth fields and grids.
    stochastic: whether it adds noise, so that its order is a weak one.
    """

    adaptive: ClassVar[bool] = False
    stochastic: ClassVar[bool] = False
    order: ClassVar[int]

    def step(self, field: VelocityField, x: Tensor, t0: float, t1: float) -> Tensor:
        """x (B, ...) at t0 -> x at t1; the times are numbers, or tensors (B, 1, ...) like x with a time for each."""
        raise NotImplementedError

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        """What takes the steps of one integration, in turn; a multistep method keeps its past there."""
        return partial(self.step, field)

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Callable[[Tensor, float], Tensor] | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        step, finite = self.begin(field, noise), []
        for t0, t1 in pairwise(grid):
            x = step(x, t0, t1)
            if project is not None:
                x = project(x, t1)
            finite.append(torch.isfinite(x).all())
        # Looked at once, at the end: asking after every step would make a GPU wait for the CPU.
        bad = torch.stack(finite).logical_not().nonzero()
        if len(bad):
            number = int(bad[0]) + 1
            raise FloatingPointError(
                f"the state became NaN or Inf in step {number} of {len(grid) - 1} (t = {grid[number - 1]:.4g} to "
                f"{grid[number]:.4g}); try precision=fp32, more steps or weaker guidance, or check the checkpoint"
            )
        return Solution(x)


def at(x: Tensor, t: float | Tensor) -> Tensor:
    """The time of each of a batch, (B,): all t, or where t has a time for each, (B, 1, ...), these."""
    return t.flatten() if isinstance(t, Tensor) else x.new_full((len(x),), t)
