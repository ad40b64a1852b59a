"""The loop that all fixed-step solvers share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import FlowMap, GuidedVelocity, Projection, StepNoise, VelocityField
from ditexp.transfer import Pending, to_host
from ditexp.values import Solution

# x (B, ...) at t0, t0, t1 -> x at t1.
Step = Callable[[Tensor, float, float], Tensor]


class FixedStep(ABC):
    """A solver that makes one step per interval of the grid.

    order: p such that the error at t = 1 falls as steps^-p on smooth fields and grids; of the SDE, the weak order.
    stochastic: whether it adds noise. history: the number of earlier steps that a step looks back at.
    uses_variance: whether it needs the output of a model's variance head beside the velocity.
    uses_flow_map: whether it needs a FlowMap in place of a velocity.
    """

    adaptive: ClassVar[bool] = False

    @property
    def order(self) -> int:
        raise NotImplementedError

    @property
    def stochastic(self) -> bool:
        return False

    @property
    def history(self) -> int:
        return 0

    @property
    def uses_variance(self) -> bool:
        return False

    @property
    def uses_flow_map(self) -> bool:
        return False

    @abstractmethod
    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        """The function that makes the steps of one integration, called once per step and in their order.

        A multistep method keeps its history in it.
        """

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Projection | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        current, largest = CurrentStep(field), []
        step = self.begin(current, noise)
        for t0, t1 in pairwise(grid):
            current.start(t0)
            x = step(x, t0, t1)
            if project is not None:
                x = project(x, t1)
            largest.append(torch.linalg.vector_norm(x, math.inf))  # NaN if any element is
        # Read once: reading after every step would make a CPU wait for the GPU. And on CUDA later, when it is done.
        check = partial(check_finite, to_host(torch.stack(largest)), grid)
        if x.device.type == "cuda":
            return Solution(x, check=check)
        check()
        return Solution(x)


def check_finite(largest: Pending[Tensor], grid: Sequence[float]) -> None:
    """Raise FloatingPointError with the first step whose state is not finite. largest: (steps,), of each state."""
    finite = largest().isfinite().tolist()
    if not all(finite):
        number = finite.index(False) + 1
        raise FloatingPointError(
            f"the state became NaN or Inf in step {number} of {len(grid) - 1} (t = {grid[number - 1]:.4g} to "
            f"{grid[number]:.4g}); try precision=fp32, more steps or weaker guidance, or check the checkpoint"
        )


class CurrentStep:
    """The field of the step that is being made."""

    def __init__(self, field: VelocityField) -> None:
        self.of_step = field
        self.guided = field if isinstance(field, GuidedVelocity) else None

    def start(self, t: float) -> None:
        """Begin a step at this time."""
        if self.guided is not None:
            self.of_step = self.guided.of_step(t)

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.of_step(x, t)

    def average(self, x: Tensor, t: float, until: float) -> Tensor:
        assert isinstance(self.of_step, FlowMap), "for solvers that use a flow map"
        return self.of_step.average(x, t, until)

    def take(self, rows: Tensor) -> VelocityField:
        return self.of_step.take(rows)


class OneStep(FixedStep):
    """A fixed-step method of the ODE whose steps depend on nothing but their start: `step` is the method."""

    @abstractmethod
    def step(self, field: VelocityField, x: Tensor, t0: float | Tensor, t1: float | Tensor) -> Tensor:
        """x (B, ...) at t0 -> x at t1. The times are numbers, or tensors (B, 1, ...) with the time of each sample."""

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        return partial(self.step, field)


def required_noise(solver: FixedStep, noise: StepNoise | None) -> StepNoise:
    """The source of noise of a solver that cannot do without one."""
    if noise is None:
        raise ValueError(f"{type(solver).__name__} adds noise in every step: pass integrate(..., noise=)")
    return noise


def at(x: Tensor, t: float | Tensor) -> float | Tensor:
    """The time of the samples x as a field takes it: a number for all of them, or (B,) of the times t (B, 1, ...)."""
    return t.view(len(x)) if isinstance(t, Tensor) else t
