from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from ditexp.checks import choice, number
from ditexp.guidance.base import dot
from ditexp.guidance.cfg import ClassifierFree
from ditexp.guidance.interval import rounded, start_of_step
from ditexp.values import append_dims


@dataclass(frozen=True, kw_only=True)
class CFGZero(ClassifierFree):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): u is scaled to fit c, and the first steps do nothing.

        v = (1 + w) c - w a u,    a = <c, u> / |u|^2

    a, of each sample, makes a u the multiple of u that is closest to c.

    zero_init: the number of first steps in which samples do not move: 1 in the paper's code for images, 4 % of the
    steps in its advice; 0 is off. zero_init_in: "steps", or "t" for the time until which they do not move. Integration
    starts at that time, which is equivalent to a velocity of 0 whatever the solver, and those steps cost nothing.
    (diffusers evaluates the network in them and discards the result.) With w = 0 it is off.
    """

    zero_init: float = 1
    zero_init_in: str = "steps"

    def __post_init__(self) -> None:
        super().__post_init__()
        choice("guidance.zero_init_in", self.zero_init_in, ("steps", "t"))
        value = number("guidance.zero_init", self.zero_init)
        if self.zero_init_in == "steps" and (value < 0 or value % 1):
            raise ValueError(f"guidance.zero_init={self.zero_init}: give a whole number of steps, 0 for none")
        if self.zero_init_in == "t" and not 0 <= value < 1:
            raise ValueError(f"guidance.zero_init={self.zero_init}: give a time in [0, 1), 0 for none")

    @property
    def start(self) -> float:
        """The time at which samples begin to move; `on` must have been called."""
        assert self.zero_init_in == "t", "on(grid) comes first"
        return self.zero_init

    def on(self, grid: Sequence[float] | None) -> Self:
        start = self.zero_init if self.weight else 0
        if start and self.zero_init_in == "steps":
            start = start_of_step(int(start), grid, "guidance.zero_init")
            if start == 1:
                raise ValueError(
                    f"guidance.zero_init={self.zero_init} leaves no step to make: give fewer than all steps"
                )
        return replace(super().on(grid), scale=None, zero_init=rounded(start), zero_init_in="t")

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        a = dot(c, u) / dot(u, u).clamp(min=1e-300)
        return super().combine(c, append_dims(a, x).to(x.dtype) * u, w, x=x, t=t)
