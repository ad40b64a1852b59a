"""The adaptive solvers of torchdiffeq, with which SiT's script samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.checks import choice, number, whole
from ditexp.core import GuidedVelocity, Projection, StepNoise, VelocityField
from ditexp.values import Solution

METHODS = ("dopri5", "dopri8", "bosh3", "fehlberg2", "adaptive_heun")


@dataclass(frozen=True)
class Torchdiffeq:
    """An adaptive method of torchdiffeq (Chen 2018, github.com/rtqichen/torchdiffeq).

    One step size for the whole batch: a step is accepted if the RMS of error / (atol + rtol max(|x before|, |x after|))
    over all elements of all samples is at most 1. A sample therefore depends on the others of its batch. The last step
    goes beyond t = 1, where the model is evaluated too, and x at t = 1 is interpolated.

    With guidance of some channels, the batch that is integrated has a second half, as in SiT and LightningDiT: it is
    equal to the first in the guided channels and follows the unconditional velocity in the others. No sample is taken
    from it, but it belongs to the error.

    max_steps: the most steps, accepted and rejected ones together; torchdiffeq itself has no such end.
    """

    adaptive: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    history: ClassVar[int] = 0
    uses_variance: ClassVar[bool] = False
    uses_flow_map: ClassVar[bool] = False

    method: str = "dopri5"
    rtol: float = 1e-3
    atol: float = 1e-6
    max_steps: int = 1000

    def __post_init__(self) -> None:
        choice("solver.method", self.method, METHODS)
        number("solver.rtol", self.rtol, minimum=0)
        number("solver.atol", self.atol, above=0)
        whole("solver.max_steps", self.max_steps, minimum=1)

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Projection | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x (B, ...) at grid[0] to grid[-1]. The points between them do not matter.

        Raises ArithmeticError if the batch does not arrive, FloatingPointError if its state is not finite, and
        ValueError for a projection.
        """
        if project is not None:
            raise ValueError("an adaptive solver does not support a projection: use a fixed-step one, as solver=heun")
        from torchdiffeq import odeint

        flow = Flow(field, self.max_steps)
        start = torch.cat([x, x]) if isinstance(field, GuidedVelocity) else x
        times = torch.tensor([grid[0], grid[-1]], dtype=torch.float64, device=x.device)
        end = odeint(flow, start, times, rtol=self.rtol, atol=self.atol, method=self.method)[-1]
        return Solution(end[: len(x)], [flow.accepted] * len(x), [flow.rejected] * len(x))


class Flow:
    """A field as torchdiffeq evaluates it; counts the steps, and ends an integration that cannot arrive.

    A field with guidance has a null half below the samples.
    """

    def __init__(self, field: VelocityField, max_steps: int) -> None:
        self.field, self.max_steps = field, max_steps
        self.accepted = self.rejected = 0

    def __call__(self, t: Tensor, x: Tensor) -> Tensor:
        time = float(t)
        if isinstance(self.field, GuidedVelocity):
            x = x[: len(x) // 2]
            return self.field.doubled(x, time)
        return self.field(x, time)

    def callback_step(self, t: Tensor, x: Tensor, h: Tensor) -> None:
        """Called before each step from x at t."""
        time, length = float(t), float(h)
        if length == 0 or not torch.isfinite(x).all():  # torchdiffeq makes a length of NaN 0
            raise FloatingPointError(
                f"the state became NaN or Inf at t = {time:.4g}; try precision=fp32, smaller solver.rtol and "
                "solver.atol or weaker guidance, or check the checkpoint"
            )
        if time + length == time or self.accepted + self.rejected >= self.max_steps:
            raise ArithmeticError(
                f"the batch is at t = {time:.4g} after {self.accepted + self.rejected} steps "
                f"(solver.max_steps={self.max_steps}), and the next one has length {length:.2g}: give larger "
                "solver.rtol and solver.atol, or more solver.max_steps"
            )

    def callback_accept_step(self, t: Tensor, x: Tensor, h: Tensor) -> None:
        self.accepted += 1

    def callback_reject_step(self, t: Tensor, x: Tensor, h: Tensor) -> None:
        self.rejected += 1
