"""Adaptive solvers from embedded Runge-Kutta pairs: a pair is its tableau."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import VelocityField
from ditexp.solver.adaptive import Adaptive
from ditexp.solver.runge_kutta import weighted
from ditexp.values import append_dims


@dataclass(frozen=True)
class EmbeddedPair(Adaptive):
    """An explicit Runge-Kutta pair of orders p and p - 1 (Hairer, Norsett & Wanner I, section II.4).

        k_i = v(x + h sum_{j<i} a_ij k_j, t + c_i h),    x_new = the last of these x,    error = h sum_i e_i k_i

    order: p, of the solution that is kept. c, a: nodes and weights of the stages after the first. The last row of
    a gives the solution, whose velocity is the first stage of the next step (FSAL). e: the weights of the solution
    minus those of the one of order p - 1.
    """

    c: ClassVar[tuple[float, ...]]
    a: ClassVar[tuple[tuple[float, ...], ...]]
    e: ClassVar[tuple[float, ...]]

    def step(self, field: VelocityField, x: Tensor, k: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        length, ks, x_new = append_dims(h, x).to(x.dtype), [k], x
        for c, weights in zip(self.c, self.a):
            x_new = x + length * weighted(weights, ks)
            ks.append(field(x_new, (t + c * h).to(x.dtype)))
        return x_new, ks[-1], length * weighted(self.e, ks)
