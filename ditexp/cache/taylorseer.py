from __future__ import annotations

from dataclasses import dataclass

from ditexp.cache.base import Periodic
from ditexp.cache.branches import Branches
from ditexp.checks import choice, whole
from ditexp.core import TransformerModel

EXTRAPOLATIONS = ("taylor", "newton")


@dataclass(frozen=True, kw_only=True)
class TaylorSeer(Periodic):
    """TaylorSeer (Liu et al. 2025, arXiv 2503.06923): the outputs of attention and MLP are extrapolated in time.

        F(t) ~ sum over i = 0 .. order of D_i (t - t_0)^i / i!    D_i = (D_(i-1)(t_0) - D_(i-1)(t_1)) / (t_0 - t_1)

    with t_0 the time of the last full evaluation and t_1 of the one before, for each branch F before its gate. Where
    fewer full evaluations are known, the order is lower. As in the released code for DiT, the first two evaluations are
    full, and then every N-th: 0, 1, 1 + N, 1 + 2 N, ... That code measures time in steps; here it is the network's
    time, which is the same on a grid of equal steps.

    order: of the expansion; 0 reuses the outputs as they are, which is FORA.
    extrapolation: "taylor", as published, whose D_i are taken as derivatives at t_0. "newton": the polynomial through
    the outputs at the last order + 1 full evaluations. They differ from order 2 on.
    """

    first: int = 2
    order: int = 1
    extrapolation: str = "taylor"

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("cache.order", self.order, minimum=0, maximum=8)
        choice("cache.extrapolation", self.extrapolation, EXTRAPOLATIONS)

    def begin(self, model: TransformerModel) -> Branches:
        return Branches(self, model, order=self.order, newton=self.extrapolation == "newton")
