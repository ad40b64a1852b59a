from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ditexp.task.base import Task
from ditexp.values import Sheet

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

STATES_SHOWN = 9


@dataclass(frozen=True)
class Generate(Task):
    """Plain sampling: each sample's own noise, integrated under its own condition."""

    decoding_facts: ClassVar[tuple[str, ...]] = ()

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition = sampler.condition(indices)
        return sampler.integrate(sampler.noise(indices), condition, indices), condition.labels

    def trajectory(self, sampler: Sampler, indices: Sequence[int]) -> Sheet:
        """x on its way from noise to data, decoded at the points of the grid that are closest to equal steps in t.

        An adaptive solver chooses its own steps; here it stops at the equal steps.
        """
        wanted = torch.linspace(sampler.grid[0], sampler.grid[-1], STATES_SHOWN, dtype=torch.float64).tolist()
        x, condition = sampler.begin(sampler.noise(indices)), sampler.condition(indices)
        states = {sampler.grid[0]: x}

        def keep(x: Tensor, t: float) -> Tensor:
            states[t] = x
            return x

        if sampler.solver.adaptive:
            for part in pairwise(wanted):
                x = keep(sampler.integrate(x, condition, indices, grid=part), part[1])
        else:
            sampler.integrate(x, condition, indices, grid=sampler.grid, project=keep)
        shown = sorted({min(states, key=lambda t: abs(t - time)) for time in wanted})
        images = torch.stack([sampler.decode(states[t]).cpu() for t in shown], dim=1)
        return Sheet(images, columns=[f"t={t:.2f}" for t in shown])
