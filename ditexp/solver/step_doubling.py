from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.adaptive import Adaptive, like
from ditexp.solver.base import FixedStep


@dataclass(frozen=True, kw_only=True)
class StepDoubling(Adaptive):
    """Any one-step method made adaptive: one step beside two of half the length (Hairer, Norsett & Wanner I, II.4).

    Of order p, these differ by 2^p - 1 times the error of the two, which is taken off them (local extrapolation): what
    is kept is of order p + 1, as is the estimate. method: a fixed-step solver, such as rk4.

    With s evaluations a step of the method it takes 3 s - 1, good or bad, and one before the first: the velocity at
    the start is known. A pair of the same order is cheaper, since its error costs nothing; this works for all.
    """

    method: FixedStep

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.method, FixedStep) or type(self.method).begin is not FixedStep.begin:
            raise ValueError(
                f"solver.method={type(self.method).__name__} is no one-step method of fixed steps: choose one, such as "
                "solver@solver.method=rk4, heun or euler"
            )
        if not getattr(self.method, "correct_last", True):
            raise ValueError("solver.method.correct_last=false would change the order of some steps: leave it true")

    @property
    def order(self) -> int:
        return self.method.order + 1

    def step(
        self, field: VelocityField, x: Tensor, k: Tensor, t: Tensor, h: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        # In x's precision, where lengths are exact: t + h of a step is t of the next to the last bit.
        start, middle, end = (like(time, x).to(x.dtype) for time in (t, t + h / 2, t + h))
        if ((h > 0) & ~((start < middle) & (middle < end)).flatten()).any():  # the halves would not differ
            raise ArithmeticError(
                f"the step size fell to {h.min():.2g} at t = {t[h.argmin()]:.4g}, where {x.dtype} cannot halve it: "
                "give larger solver.rtol and solver.atol, or a fixed-step solver"
            )

        def velocity(x_then: Tensor, t_then: Tensor) -> Tensor:
            if x_then is x and torch.equal(t_then, start.flatten()):
                return k
            return field(x_then, t_then, rows)

        whole = self.method.step(velocity, x, start, end)
        halves = self.method.step(velocity, self.method.step(velocity, x, start, middle), middle, end)
        error = (halves - whole) / (2**self.method.order - 1)
        x_new = halves + error
        return x_new, field(x_new, end.flatten(), rows), error
