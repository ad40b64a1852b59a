"""What a network predicts, and how it becomes the velocity of ditexp's flow.

Time and noise are ditexp's: x_t = (1 - t) x_0 + t x_1 with unit noise x_0 at t = 0 and data x_1 at t = 1. A network
trained on another path, in another direction or with another scale of noise is given its own x and time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from ditexp.checks import choice
from ditexp.model.paths import Exponential, Linear, Path, Rotation, Trigonometric, VariancePreserving
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


@dataclass(frozen=True)
class OnPath(ABC):
    """What predictions on a path of their own share.

    With c = alpha + sigma, the network's x is c x_t. In the flow, x_t = t x_1 + (1 - t) eps and v = x_1 - eps, where
    x_1 is the data and eps the noise. Samples begin at the path's start with unit noise on the path, as in DDPM.
    """

    path: Path

    predicts: ClassVar[str]

    @property
    def start(self) -> float:
        return self.path.start

    @property
    def start_std(self) -> float:
        return 1 / self.path.scale(torch.tensor(self.start, dtype=torch.float64)).item()

    @property
    def identity(self) -> dict:
        return {"predicts": self.predicts, **self.path.identity}

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        t = self.known(t)
        return append_dims(self.path.scale(t), x).to(x.dtype) * x, self.path.time(t).to(x.dtype)

    def velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        t = append_dims(self.known(t), x)
        return self.flow_velocity(output, x, t)

    def known(self, t: Tensor) -> Tensor:
        """The times (B,) float64 at which the network is evaluated for the velocity at t."""
        return t.double().clamp(self.path.start, self.path.end)

    @abstractmethod
    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """v (B, ...) at times t (B, 1, ...) float64 that the network knows."""


@dataclass(frozen=True)
class Noise(OnPath):
    """eps (Ho et al. 2020, arXiv 2006.11239): v = (x - eps) / t."""

    predicts = "noise"

    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return (x - output) / t.to(x.dtype)


@dataclass(frozen=True)
class Score(OnPath):
    """The score of the path, -eps / sigma (Song et al. 2021, arXiv 2011.13456)."""

    predicts = "score"

    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        sigma = (1 - t) * self.path.scale(t)
        return (x + sigma.to(x.dtype) * output) / t.to(x.dtype)


@dataclass(frozen=True)
class DataOnPath(OnPath):
    """The data x_1: v = (x_1 - x) / (1 - t)."""

    predicts = "data"

    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return (output - x) / (1 - t).to(x.dtype)


@dataclass(frozen=True)
class Angular(OnPath):
    """alpha eps - sigma x_1 on a variance-preserving path: "v" of Salimans & Ho 2022 (arXiv 2202.00512, appendix D).

    With c = alpha + sigma, v = -c output - c^2 (1 - 2 t) x.
    """

    path: VariancePreserving

    predicts = "angular velocity"

    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        c = self.path.scale(t)
        return -c.to(x.dtype) * output - (c.square() * (1 - 2 * t)).to(x.dtype) * x


@dataclass(frozen=True)
class VelocityOnPath(OnPath):
    """The velocity of the path, alpha' x_1 + sigma' eps in its own time (SiT): it is -speed times `Angular`'s."""

    path: Rotation

    predicts = "velocity"

    def flow_velocity(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return Angular(self.path).flow_velocity(-output / self.path.speed(t).to(x.dtype), x, t)


def sit_prediction(*, path_type: str, prediction: str) -> Prediction:
    """What a network of SiT's code predicts that was trained with these `--path-type` and `--prediction`.

    path_type: Linear, GVP or VP. prediction: velocity, noise or score. As SiT does, it keeps 0.001 of the path's time
    away from ends where a coefficient is infinite: from both for noise and score, and from the data on VP.
    """
    choice("path_type", path_type, ("Linear", "GVP", "VP"))
    choice("prediction", prediction, ("velocity", "noise", "score"))
    if prediction == "velocity":
        paths = {"GVP": Trigonometric(), "VP": Exponential(last=0.999)}
        return Velocity() if path_type == "Linear" else VelocityOnPath(paths[path_type])
    cut = {"first": 0.001, "last": 0.999}
    path = {"Linear": Linear(**cut), "GVP": Trigonometric(**cut), "VP": Exponential(last=0.999)}[path_type]
    return Noise(path) if prediction == "noise" else Score(path)
