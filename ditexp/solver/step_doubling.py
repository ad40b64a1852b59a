from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.adaptive import Adaptive
from ditexp.solver.base import OneStep
from ditexp.solver.heun import Heun
from ditexp.values import append_dims


@dataclass(frozen=True)
class KnownStart:
    """A field whose velocity at one x (B, ...) and t (B,) is known already and costs no evaluation."""

    field: VelocityField
    x: Tensor
    t: Tensor
    velocity: Tensor

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        is_known = x is self.x and isinstance(t, Tensor) and torch.equal(t, self.t)
        return self.velocity if is_known else self.field(x, t)

    def take(self, rows: Tensor) -> VelocityField:
        return self.field.take(rows)


@dataclass(frozen=True, kw_only=True)
class StepDoubling(Adaptive):
    """Any one-step method made adaptive: one step beside two of half the length (Hairer, Norsett & Wanner I, II.4).

        error = (two halves - whole) / (2^p - 1),    x <- two halves + error    (local extrapolation)

    The result and its error estimate are of order p + 1, p being the order of the method.
    method: a one-step solver with fixed steps, such as rk4.

    A method with s evaluations per step costs 3 s - 1 here, for accepted and rejected steps, and one evaluation before
    the first step: the velocity at the start is then known. An embedded pair of the same order is cheaper, since its
    error estimate costs nothing; step doubling works for every one-step method.
    """

    method: OneStep

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.method, OneStep):
            raise ValueError(
                f"solver.method={type(self.method).__name__} is not a one-step method with fixed steps: choose one, "
                "such as solver@solver.method=rk4, heun or euler"
            )
        if isinstance(self.method, Heun) and not self.method.correct_last:
            raise ValueError("solver.method.correct_last=false would change the order of some steps: leave it true")

    @property
    def order(self) -> int:
        return self.method.order + 1

    def step(self, field: VelocityField, x: Tensor, k: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        # In the precision of x, in which lengths are exact: t + h of one step is t of the next to the last bit.
        start, middle, end = (append_dims(time, x).to(x.dtype) for time in (t, t + h / 2, t + h))
        if ((h > 0) & ~((start < middle) & (middle < end)).flatten()).any():  # the halves would not differ
            raise ArithmeticError(
                f"the step size fell to {h.min():.2g} at t = {t[h.argmin()]:.4g}, where {x.dtype} cannot halve it: "
                "give larger solver.rtol and solver.atol, or a fixed-step solver"
            )
        known = KnownStart(field, x, start.flatten(), k)
        whole = self.method.step(known, x, start, end)
        halves = self.method.step(known, self.method.step(known, x, start, middle), middle, end)
        error = (halves - whole) / (2**self.method.order - 1)
        x_new = halves + error
        return x_new, field(x_new, end.flatten()), error
