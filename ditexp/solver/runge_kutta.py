"""Explicit Runge-Kutta methods of fixed steps: a method is its tableau."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.base import FixedStep, at


class RungeKutta(FixedStep):
    """An explicit Runge-Kutta method (Hairer, Norsett & Wanner, "Solving Ordinary Differential Equations I", II.1).

    c, a: nodes and weights of the stages after the first. b: weights of the step.
    """

    c: ClassVar[tuple[float, ...]]
    a: ClassVar[tuple[tuple[float, ...], ...]]
    b: ClassVar[tuple[float, ...]]

    def step(self, field: VelocityField, x: Tensor, t0: float, t1: float) -> Tensor:
        return self.advance(field, x, t0, t1, field(x, at(x, t0)))

    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, k1: Tensor) -> Tensor:
        """A step whose first velocity is known: k1 like x, at t0."""
        h, ks = t1 - t0, [k1]
        for c, weights in zip(self.c, self.a):
            t = t1 if c == 1 else t0 + c * h  # t0 + h may miss t1 by a rounding error
            ks.append(field(x + h * weighted(weights, ks), at(x, t)))
        return x + h * weighted(self.b, ks)


def weighted(weights: Sequence[float], ks: Sequence[Tensor]) -> Tensor:
    """The sum of weights times velocities, written out: a matrix product would round with the batch's shape."""
    return sum(weight * k for weight, k in zip(weights, ks) if weight)
