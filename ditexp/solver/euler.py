from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.base import FixedStep, at


@dataclass(frozen=True)
class Euler(FixedStep):
    """Euler's method: one evaluation a step, order 1."""

    order: ClassVar[int] = 1

    def step(self, field: VelocityField, x: Tensor, t0: float, t1: float) -> Tensor:
        return x + (t1 - t0) * field(x, at(x, t0))
