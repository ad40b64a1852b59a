"""What a network predicts, and how it becomes the velocity of ditexp's flow.

Time and noise are ditexp's: x_t = (1 - t) x_0 + t x_1 with unit noise x_0 at t = 0 and data x_1 at t = 1. A network
trained on another path, in another direction or with another scale of noise is given its own x and time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Protocol

from torch import Tensor

from ditexp.values import append_dims


class Prediction(Protocol):
    """What a network predicts.

    start, start_std: the time at which samples begin, and the standard deviation of x there; as in FlowModel.
    identity: JSON-able facts that determine the velocity of a given output; part of a set's id.
    """

    @property
    def start(self) -> float: ...
    @property
    def start_std(self) -> float: ...
    @property
    def identity(self) -> dict: ...

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given, x (B, ...) and time (B,), where the flow is at x (B, ...) and t (B,) in [0, 1]."""

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The velocity (B, ...) of the flow at x and t, from what the network returns for `inputs(x, t)`."""


@dataclass(frozen=True)
class Velocity:
    """A flow's velocity: data - noise at time t (SiT, Ma et al. 2024, arXiv 2401.08740; LightningDiT).

    reversed: the network's time runs from data to noise; it is given 1 - t and returns noise - data (REPA, Yu et al.
    2024, arXiv 2410.06940).
    """

    reversed: bool = False
    start = 0.0
    start_std = 1.0

    @property
    def identity(self) -> dict:
        return {"predicts": "velocity", **asdict(self)}

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return x, 1 - t if self.reversed else t

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return -output if self.reversed else output


@dataclass(frozen=True)
class Data:
    """The data x_1 (JiT, Li & He 2025, arXiv 2511.13720, equation 5): v = (x_1 - z) / max(1 - t, t_eps).

    scale: the standard deviation s of the noise that the network was trained with, in z = t x_1 + (1 - t) s noise. The
    flow's x is z / s, so that its noise has standard deviation 1, and its data is x_1 / s.
    t_eps: 1 - t is not taken to be smaller, in training and in sampling.
    """

    t_eps: float = 0.05
    scale: float = 1.0
    start = 0.0
    start_std = 1.0

    @property
    def identity(self) -> dict:
        return {"predicts": "data", **asdict(self)}

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.scale * x, t

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return (output / self.scale - x) / append_dims(1 - t, x).clamp(min=self.t_eps)
