"""The grids of published code, point by point, so that `steps` means what their option means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.schedule.base import Steps
from ditexp.schedule.shift import Shift


@dataclass(frozen=True)
class SiTPoints(Steps):
    """SiT's, LightningDiT's and RAE's grid for ODEs: `steps` counts points, so that 50 are 49 intervals.

    (`num_sampling_steps` in their scripts.) shift: of `schedule=shift`; LightningDiT's `timestep_shift` of 0.3 is
    1 / 0.3 here.
    """

    shift: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        Shift(self.steps, self.shift)  # checks it
        if self.steps < 2:
            raise ValueError(f"steps={self.steps}: this grid counts points, so give a whole number of at least 2")

    def grid(self) -> Tensor:
        return Shift(self.steps - 1, self.shift).grid()


@dataclass(frozen=True)
class SiTLastStep(Steps):
    """SiT's and REPA's grid for the SDE: steps - 1 equal ones to t = 1 - last, and a last one over what is left.

    last: 0.04 in both (`last_step_size`), so that the score is never asked for near t = 1, where it is singular.
    """

    last: float = 0.04

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.last < 1:
            raise ValueError(f"schedule.last={self.last}: give a number in (0, 1); SiT takes 0.04")
        if self.steps < 2:
            raise ValueError(f"steps={self.steps}: the last of them has a length of its own, so give at least 2")

    def grid(self) -> Tensor:
        return torch.cat([torch.linspace(0, 1 - self.last, self.steps, dtype=torch.float64), torch.ones(1).double()])


@dataclass(frozen=True)
class DiffusersFlow(Steps):
    """The grid of diffusers' FlowMatchEulerDiscreteScheduler: sigma = 1 - t from 1 to 0.001 in `steps` points, then 0.

    So the last step hardly moves. shift: 3 for Stable Diffusion 3. It acts twice on the smallest sigma, which ends up
    at 0.009 then: diffusers shifts its bound, and after that all points.
    """

    shift: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        Shift(self.steps, self.shift)

    def grid(self) -> Tensor:
        shifted = Shift(self.steps, self.shift).warp
        points = torch.linspace(0, shifted(0.999), self.steps, dtype=torch.float64)
        return torch.cat([shifted(points), torch.ones(1).double()])
