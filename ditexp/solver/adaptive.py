"""What all adaptive solvers share: every sample has its own error, its own step size and its own clock."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import at
from ditexp.values import Solution

# The constants of Hairer, Norsett & Wanner's own code, DOPRI5. BETA = 0 is the plain controller of their eq. 4.13.
SAFETY, SHRINK, GROW, BETA = 0.9, 0.2, 10.0, 0.04


@dataclass(frozen=True)
class Adaptive:
    """A one-step method whose steps follow its own estimate of their error.

    Hairer, Norsett & Wanner, "Solving Ordinary Differential Equations I", section II.4.
    order: p such that a step's estimated error falls as h^p.

    rtol, atol: a step is good if the RMS of error / (atol + rtol max(|x before|, |x after|)) over the sample's own
    elements is at most 1. max_steps: good and bad steps that a sample may try.
    """

    adaptive: ClassVar[bool] = True
    order: ClassVar[int]

    rtol: float = 1e-4
    atol: float = 1e-4
    max_steps: int = 1000

    def __post_init__(self):
        if not 0 <= self.rtol < math.inf:
            raise ValueError(f"solver.rtol={self.rtol}: give a number of at least 0")
        if not 0 < self.atol < math.inf:
            raise ValueError(f"solver.atol={self.atol}: give a number above 0")
        if not isinstance(self.max_steps, int) or isinstance(self.max_steps, bool) or self.max_steps < 1:
            raise ValueError(f"solver.max_steps={self.max_steps}: give a whole number of at least 1")

    def integrate(
        self,
        field: VelocityField,
        x: Tensor,
        grid: Sequence[float],
        project: Callable[[Tensor, float], Tensor] | None = None,
        noise: StepNoise | None = None,
    ) -> Solution:
        """From x (B, ...) at grid[0] to grid[-1]; what lies between them in the grid does not matter.

        A sample leaves the batch when it arrives: the field is evaluated for those still on their way.
        Raises ArithmeticError when a sample does not arrive, FloatingPointError when its state is not finite, and
        ValueError for a projection: it is of a whole batch at one time, and here each sample has its own.
        """
        if project is not None:
            raise ValueError("an adaptive solver takes no projection yet: use a fixed-step one, such as solver=heun")
        start, end = grid[0], grid[-1]
        result = torch.empty_like(x)
        rows = torch.arange(len(x), device=x.device)
        k = field(x, at(x, start), rows)
        every = clocks = [Clock(start, end, self.order) for _ in range(len(x))]
        for clock, speed in zip(clocks, self.norm(k, x, x)):
            # h^p |v| = 0.01 in units of the tolerance: HNW's first step (II.4) without the second derivative, which
            # would cost an evaluation; a bad guess only costs a bad step. At most 0.1: v may be asleep at first.
            clock.propose(min(0.1, (0.01 / max(0.01, speed)) ** (1 / self.order)))
        for _ in range(self.max_steps):
            t, h = torch.tensor([(clock.t, clock.h) for clock in clocks], dtype=torch.float64, device=x.device).T
            x_new, k_new, error = self.step(field, x, k, t, h, rows)
            # An infinite x_new would pass as a large scale.
            errors = self.norm(error.where(x_new.isfinite(), torch.nan), x, x_new)
            good = [clock.judge(error) for clock, error in zip(clocks, errors)]
            taken = like(torch.tensor(good, device=x.device), x)
            x, k = torch.where(taken, x_new, x), torch.where(taken, k_new, k)
            going = [i for i, clock in enumerate(clocks) if clock.t < end]
            if len(going) < len(clocks):
                result[rows] = x  # for good where a sample has arrived
                x, k, rows, clocks = x[going], k[going], rows[going], [clocks[i] for i in going]
            if not clocks:
                return Solution(result, [clock.accepted for clock in every], [clock.rejected for clock in every])
        last = min(clocks, key=lambda clock: clock.t)
        raise ArithmeticError(
            f"solver.max_steps={self.max_steps} ran out for {len(clocks)} of {len(result)} samples, one of them at "
            f"t = {last.t:.4g} with an error of {last.error:.3g} times the tolerance in its last step: give larger "
            "solver.rtol and solver.atol, or more solver.max_steps"
        )

    def step(
        self, field: VelocityField, x: Tensor, k: Tensor, t: Tensor, h: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, ...) and its velocity k at t (B,) -> x and velocity at t + h (B,), and the error of the new x.

        t and h are float64. rows: which samples of the batch these are, for the field.
        """
        raise NotImplementedError

    def norm(self, difference: Tensor, x: Tensor, x_new: Tensor) -> list[float]:
        """The size of each sample's difference (B, ...) in units of the tolerance."""
        scale = self.atol + self.rtol * torch.maximum(x.abs(), x_new.abs())
        return (difference / scale).flatten(1).double().square().mean(1).sqrt().tolist()


@dataclass
class Clock:
    """Where one sample stands, and the step it tries next.

    Plain floats, because torch's pow rounds differently with a number's place in a tensor: a sample's steps would
    depend on its batch. error: of the last step tried; good_error: of the last good one, at least 1e-4.
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
        """Whether the step with this error, in units of the tolerance, is good: if so it is taken; then the next h.

        The PI controller of Gustafsson 1991 as in DOPRI5: h / max(1 / GROW, min(1 / SHRINK, divisor)) with
        divisor = error^(1/p - 3/4 BETA) / good_error^BETA / SAFETY. A bad step counts for its own error alone, and
        the step after it doesn't grow.
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
                f"the step size fell to {self.h:.2g} at t = {self.t:.4g}, where a sample's error was {error:.3g} times "
                "the tolerance: give larger solver.rtol and solver.atol, or a fixed-step solver"
            )
        return is_good


def like(values: Tensor, x: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...), to go with x (B, ...)."""
    return values.view(-1, *[1] * (x.dim() - 1))
