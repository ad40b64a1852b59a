from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import choice, number, whole
from ditexp.schedule.base import Steps
from ditexp.variance_preserving import flow_times, linear_betas

SPACINGS = ("even", "stride")


@dataclass(frozen=True)
class RespacedDDPM(Steps):
    """The times of `steps` indices of a discrete diffusion (Nichol & Dhariwal 2021, arXiv 2102.09672, section 4).

    With indices i_1 < ... < i_N, the grid is 0, t(i_{N-1}), ..., t(i_1), 1. The first step starts where the model does,
    which is t(train_steps - 1) for a model of this diffusion: the network is evaluated at just these indices.

    spacing: even, from index 0 to train_steps - 1, rounded, which is DiT's for `--num-sampling-steps`; stride, DDIM's
    multiples of a whole number, written "ddimN" in the code of ADM and DiT. Those stop short of the last index (at 980
    for 50 steps), but the first step starts there all the same, where DiT's code starts at 980 with the same noise.
    train_steps, beta_start, beta_end: of the diffusion, whose betas are on a line.
    """

    spacing: str = "even"
    train_steps: int = 1000
    beta_start: float = 1e-4
    beta_end: float = 0.02

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("schedule.train_steps", self.train_steps, minimum=1)
        whole("steps", self.steps, minimum=1, maximum=self.train_steps)
        choice("schedule.spacing", self.spacing, SPACINGS)
        number("schedule.beta_start", self.beta_start, above=0, below=1)
        number("schedule.beta_end", self.beta_end, above=0, below=1)
        if self.spacing == "stride":
            stride(self.train_steps, self.steps)

    def indices(self) -> list[int]:
        """The indices of the diffusion, rising."""
        if self.spacing == "stride":
            return list(range(0, self.train_steps, stride(self.train_steps, self.steps)))
        return evenly_spaced(self.train_steps, self.steps)

    def grid(self) -> Tensor:
        times = flow_times(linear_betas(self.train_steps, first=self.beta_start, last=self.beta_end))
        inner = times[self.indices()[:-1]].flip(0)
        ends = inner.new_tensor([0, 1])
        return torch.cat([ends[:1], inner, ends[1:]])


def evenly_spaced(train_steps: int, steps: int) -> list[int]:
    """`steps` indices from 0 to train_steps - 1.

    Positions are summed up and then rounded, as in the code of ADM and DiT, where a half can fall on either side.
    """
    position, found = 0.0, []
    for _ in range(steps):
        found.append(round(position))
        position += (train_steps - 1) / max(1, steps - 1)
    return found


def stride(train_steps: int, steps: int) -> int:
    """The smallest stride with just `steps` multiples below train_steps. Raises ValueError if there is none."""
    counts = {-(-train_steps // whole_stride): whole_stride for whole_stride in range(train_steps, 0, -1)}
    if steps not in counts:
        below, above = max(n for n in counts if n < steps), min(n for n in counts if n > steps)
        raise ValueError(
            f"steps={steps}: schedule.spacing=stride has no whole stride for it: choose steps={below} or {above}, or "
            "schedule.spacing=even"
        )
    return counts[steps]
