"""The grids of published code, point by point, so that `steps` means the same as in their options."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.checks import number, whole
from ditexp.schedule.base import Steps
from ditexp.schedule.shift import Shift
from ditexp.values import added


@dataclass(frozen=True)
class SiTPoints(Steps):
    """The grid of SiT and LightningDiT for ODEs: `steps` counts points, so that 50 are 49 intervals.

    It is `num_sampling_steps` in their scripts. shift: as in `schedule=shift`; LightningDiT's `timestep_shift` of 0.3
    is 1 / 0.3 here.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.shift", self.shift, above=0)
        whole("steps", self.steps, minimum=2)  # points

    def grid(self) -> Tensor:
        return Shift(self.steps - 1, self.shift).grid()


@dataclass(frozen=True)
class RAEPoints(Steps):
    """The grid of RAE (Zheng et al. 2025, arXiv 2510.11690): shifted points, which end before t = 1 and count as steps.

    They are the shift by a = sqrt(dimension / 4096) of points that are uniform from 0 to 0.999, so that 50 points are
    49 intervals, the last of which ends at 0.99311 for latents of 768 x 16 x 16. Their script decodes x there: it has
    no last step to 1.

    dimension: the numbers of a latent, channels times height times width; `time_dist_shift_dim` in their configs.
    """

    dimension: int = 768 * 16 * 16

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("schedule.dimension", self.dimension, minimum=4096)
        whole("steps", self.steps, minimum=2)  # points

    def grid(self) -> Tensor:
        points = torch.linspace(0, 0.999, self.steps, dtype=torch.float64)
        return Shift(self.steps, math.sqrt(self.dimension / 4096)).warp(points)


@dataclass(frozen=True)
class SiTLastStep(Steps):
    """The grid of SiT and REPA for the SDE, and of DDT: steps - 1 equal steps to t = 1 - last, and a last step to 1.

    last: 0.04 in all of them (SiT's `last_step_size`), so that the score is never evaluated near t = 1, where it is
    singular. shift: as in `schedule=shift`, of all points; DDT's `timeshift`.
    """

    last: float = 0.04
    shift: float = added(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.last", self.last, above=0, below=1)
        number("schedule.shift", self.shift, above=0)
        whole("steps", self.steps, minimum=2)

    def grid(self) -> Tensor:
        points = torch.linspace(0, 1 - self.last, self.steps, dtype=torch.float64)
        points = points if self.shift == 1 else Shift(self.steps, self.shift).warp(points)
        return torch.cat([points, torch.ones(1).double()])


@dataclass(frozen=True)
class DiffusersFlow(Steps):
    """The grid of diffusers' FlowMatchEulerDiscreteScheduler: sigma = 1 - t from 1 to 0.001 in `steps` points, then 0.

    The last step hardly moves. shift: 3 for Stable Diffusion 3. It acts twice on the smallest sigma, which becomes
    0.009: diffusers shifts the bound first, and then all points.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        number("schedule.shift", self.shift, above=0)

    def grid(self) -> Tensor:
        shifted = Shift(self.steps, self.shift).warp
        last = shifted(torch.tensor(0.999, dtype=torch.float64)).item()
        points = torch.linspace(0, last, self.steps, dtype=torch.float64)
        return torch.cat([shifted(points), torch.ones(1).double()])
