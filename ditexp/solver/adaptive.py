"""What all adaptive solvers share: every sample has its own error, its own step size and its own clock."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.checks import number, whole
from ditexp.core import Projection, StepNoise, VelocityField
from ditexp.values import Solution, append_dims

# The constants of DOPRI5, the code of Hairer, Norsett & Wanner. BETA = 0 is the plain controller of their eq. 4.13.
SAFETY, SHRINK, GROW, BETA = 0.9, 0.2, 10.0, 0.04


@dataclass(frozen=True)
class Adaptive(ABC):
    """A one-step method that chooses its step sizes by an estimate of its own error.

    Hairer, Norsett & Wanner, "Solving Ordinary Differential Equations I", section II.4.
    order: p such that the estimated error of a step falls as h^p.

    rtol, atol: a step is accepted if the RMS of error / (atol + rtol max(|x before|, |x after|)) over the elements of
    the sample is at most 1. max_steps: the most steps that a sample may try, accepted and rejected ones together.
    """

    adaptive: ClassVar[bool] = True
    stochastic: ClassVar[bool] = False
    uses_variance: ClassVar[bool] = False
    uses_flow_map: ClassVar[bool] = False
    history: ClassVar[int] = 0

    rtol: float = 1e-4
    atol: float = 1e-4
    max_steps: int = 1000

    def __post_init__(self) -> None:
        number("solver.rtol", self.rtol, minimum=0)
        number("solver.atol", self.atol, above=0)
        whole("solver.max_steps", self.max_steps, minimum=1)

    @property
    def order(self) -> int:
        raise NotImplementedError

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Projection | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x (B, ...) at grid[0] to grid[-1]. The points between them do not matter.

        A sample leaves the batch when it arrives: the field is evaluated only for those still on their way.
        Raises ArithmeticError if a sample does not arrive, FloatingPointError if its state is not finite, and
        ValueError for a projection: a projection acts on a whole batch at one time, and here each sample has its own.
        """
        if project is not None:
            raise ValueError("an adaptive solver does not support a projection: use a fixed-step one, as solver=heun")
        start, end = grid[0], grid[-1]
        result = torch.empty_like(x)
        rows = torch.arange(len(x), device=x.device)  # the samples that are still on their way
        k = field(x, start)
        every = clocks = [Clock(start, end, self.order) for _ in range(len(x))]
        for clock, speed in zip(clocks, self.norm(k, x, x)):
            # h^p |v| = 0.01 in units of the tolerance: the first step of HNW (II.4) without the second derivative,
            # which would cost an evaluation. A bad guess only costs a rejected step. At most 0.1: v may be 0 at first.
            clock.propose(min(0.1, (0.01 / max(0.01, speed)) ** (1 / self.order)))
        for _ in range(self.max_steps):
            t, h = torch.tensor([(clock.t, clock.h) for clock in clocks], dtype=torch.float64, device=x.device).T
            x_new, k_new, error = self.step(field, x, k, t, h)
            # An infinite x_new would make the scale infinite and so pass as a small error.
            errors = self.norm(error.where(x_new.isfinite(), torch.nan), x, x_new)
            accepted = append_dims(
                torch.tensor([clock.judge(error) for clock, error in zip(clocks, errors)], device=x.device), x
            )
            x, k = torch.where(accepted, x_new, x), torch.where(accepted, k_new, k)
            going = [i for i, clock in enumerate(clocks) if clock.t < end]
            if len(going) < len(clocks):
                result[rows] = x  # final for the samples that have arrived
                x, k, rows, clocks = x[going], k[going], rows[going], [clocks[i] for i in going]
                field = field.take(torch.tensor(going, dtype=torch.int64, device=x.device))
            if not clocks:
                return Solution(result, [clock.accepted for clock in every], [clock.rejected for clock in every])
        last = min(clocks, key=lambda clock: clock.t)
        raise ArithmeticError(
            f"solver.max_steps={self.max_steps} ran out for {len(clocks)} of {len(result)} samples, one of them at "
            f"t = {last.t:.4g} with an error of {last.error:.3g} times the tolerance in its last step: give larger "
            "solver.rtol and solver.atol, or more solver.max_steps"
        )

    @abstractmethod
    def step(self, field: VelocityField, x: Tensor, k: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, ...) and its velocity k at t (B,) -> x and velocity at t + h (B,), and the error of the new x.

        t and h are float64.
        """

    def norm(self, difference: Tensor, x: Tensor, x_new: Tensor) -> list[float]:
        """The RMS of each sample's difference (B, ...) in units of the tolerance."""
        scale = self.atol + self.rtol * torch.maximum(x.abs(), x_new.abs())
        return (difference / scale).flatten(1).double().square().mean(1).sqrt().tolist()


@dataclass
class Clock:
    """The time of one sample, and the step that it tries next.

    Plain floats, because the rounding of torch's pow depends on an element's position in the tensor: the steps of a
    sample would depend on its batch. error: of the last step tried; good_error: of the last accepted one, at least
    1e-4.
    """

    t: float
    end: float
    order: int
    h: float = 0.0
    error: float = 0.0
    good_error: float = 1e-4
    accepted: int = 0
    rejected: int = 0

    def propose(self, h: float) -> None:
        """Try h next, or all that is left if that is at most 1 % more, so that no tiny last step remains."""
        left = self.end - self.t
        self.h = left if 1.01 * h >= left else h

    def judge(self, error: float) -> bool:
        """Accept or reject the step with this error, in units of the tolerance, and choose the next step size.

        The PI controller of Gustafsson 1991 as in DOPRI5: h / max(1 / GROW, min(1 / SHRINK, divisor)) with
        divisor = error^(1/p - 3/4 BETA) / good_error^BETA / SAFETY. After a rejected step only its own error counts,
        and the next accepted step does not grow.
        """
        if not math.isfinite(error):
            raise FloatingPointError(
                f"the state became NaN or Inf at t = {self.t:.4g} (step size {self.h:.3g}); try precision=fp32, "
                "smaller solver.rtol and solver.atol or weaker guidance, or check the checkpoint"
            )
        is_good, was_good, self.error = error <= 1, self.error <= 1, error
        self.accepted, self.rejected = self.accepted + is_good, self.rejected + (not is_good)
        divisor = error ** (1 / self.order - 0.75 * BETA) / SAFETY
        if is_good:
            self.t = self.end if self.h == self.end - self.t else self.t + self.h
            divisor = max(divisor / self.good_error**BETA, 1 / GROW if was_good else 1)
            self.good_error = max(error, 1e-4)
        self.propose(self.h / min(divisor, 1 / SHRINK))
        if not is_good and self.t + self.h == self.t:
            raise ArithmeticError(
                f"the step size fell to {self.h:.2g} at t = {self.t:.4g}, where the error of a sample was {error:.3g} "
                "times the tolerance: give larger solver.rtol and solver.atol, or a fixed-step solver"
            )
        return is_good
