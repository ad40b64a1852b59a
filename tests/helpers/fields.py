"""Velocity fields for solvers, without a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ditexp.values import times_of


@dataclass(frozen=True)
class Field:
    """The field of a function of x (B, ...) and t (B,) that is the same for every sample."""

    velocity: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, x: Tensor, t: float | Tensor) -> Tensor:
        return self.velocity(x, times_of(x, t))

    def take(self, rows: Tensor) -> Field:
        return self
