"""Explicit Runge-Kutta methods with fixed steps: a method is its tableau."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.base import OneStep, at


class RungeKutta(OneStep):
    """An explicit Runge-Kutta method (Hairer, Norsett & Wanner, "Solving Ordinary Differential Equations I", II.1).

        k_1 = v(x, t),    k_i = v(x + h sum_{j<i} a_ij k_j, t + c_i h),    x <- x + h sum_i b_i k_i

    c, a: nodes and weights of the stages after the first. b: weights of the step.
    """

    c: ClassVar[tuple[float, ...]]
    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]

    def step(self, field: VelocityField, x: Tensor, t0: float | Tensor, t1: float | Tensor) -> Tensor:
        return self.advance(field, x, t0, t1, field(x, at(x, t0)))

    def advance(self, field: VelocityField, x: Tensor, t0: float | Tensor, t1: float | Tensor, k1: Tensor) -> Tensor:
        """A step whose first velocity is known already: k1 like x, at t0."""
        h, ks = t1 - t0, [k1]
        for c, weights in zip(self.c, self.a):
            t = t1 if c == 1 else t0 + c * h  # t0 + h may miss t1 by a rounding error
            ks.append(field(x + h * weighted(weights, ks), at(x, t)))
        return x + h * weighted(self.b, ks)


def weighted(weights: Sequence[float], ks: Iterable[Tensor]) -> Tensor:
    """The sum of weights times velocities, term by term: the rounding of a matrix product depends on the batch size."""
    terms = [k if weight == 1 else weight * k for weight, k in zip(weights, ks) if weight]
    return sum(terms[1:], start=terms[0]) if terms else torch.zeros(())
