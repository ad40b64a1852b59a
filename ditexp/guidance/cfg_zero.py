from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from ditexp.guidance.base import dot, number, per_sample, settled, start_of_step
from ditexp.guidance.cfg import ClassifierFree


@dataclass(frozen=True, kw_only=True)
class CFGZero(ClassifierFree):
    """CFG-Zero* (Fan et al. 2025, arXiv 2503.18886): u is scaled to fit c, and the first steps do nothing.

    v = (1 + w) c - w a u, where a = <c, u> / |u|^2 of each sample is what brings a u closest to c.

    zero_init: the first steps, in which samples stay as they are: 1 in the paper's code for images, 4 % of the steps
    in its advice; 0 is off. zero_init_in: "steps", or "t" for the time up to which they stay. Integration then starts
    there, which is what a velocity of 0 comes to, whatever the solver; and those steps cost nothing. (diffusers calls
    the network in them and throws its result away.) With w = 0 it is off.
    """

    zero_init: float = 1
    zero_init_in: str = "steps"

    def __post_init__(self):
        super().__post_init__()
        if self.zero_init_in not in ("steps", "t"):
            raise ValueError(f"guidance.zero_init_in={self.zero_init_in}: choose from steps, t")
        value = number("guidance.zero_init", self.zero_init)
        if self.zero_init_in == "steps" and not (value.is_integer() and value >= 0):
            raise ValueError(f"guidance.zero_init={self.zero_init}: give a whole number of steps, 0 for none")
        if self.zero_init_in == "t" and not 0 <= value < 1:
            raise ValueError(f"guidance.zero_init={self.zero_init}: give a time in [0, 1), 0 for none")

    @property
    def start(self) -> float:
        """When samples begin to move; `on` must have been called."""
        assert self.zero_init_in == "t"
        return self.zero_init

    def on(self, grid: Sequence[float] | None) -> CFGZero:
        start = self.zero_init if self.weight else 0
        if start and self.zero_init_in == "steps":
            start = start_of_step(int(start), grid, "guidance.zero_init")
            if start == 1:
                raise ValueError(f"guidance.zero_init={self.zero_init}: no step is left of {len(grid) - 1}")
        return replace(super().on(grid), scale=None, zero_init=settled(start), zero_init_in="t")

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        a = dot(c, u) / dot(u, u).clamp(min=1e-300)
        return super().combine(c, per_sample(a, x) * u, w, x=x, t=t)
