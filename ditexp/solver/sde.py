"""What solvers of the SDE share: the drift, and the steps at the two ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, at
from ditexp.solver.diffusion import FORMS, NORMALISATIONS, coefficient

LAST_STEPS = ("mean", "tweedie", "euler")


@dataclass(frozen=True)
class SDE(FixedStep):
    """Integrates dx = [v + w_t s / 2] dt + sqrt(w_t) dW, whose x_t is distributed as the flow's (SiT, section 2).

    The score s = (t v - x) / (1 - t) comes of the velocity, so a step evaluates the network no more often than the
    same method of the ODE; SiT's code asks for v and s apart, twice as often. Noise is keyed by (seed, index, step).

    order: the weak order, p such that the error of expectations at t = 1 falls as steps^-p.
    diffusion: the form of w_t, see docs/sde.md. norm: its size; at 0 (but for decreasing) the SDE is the ODE.
    normalisation: paper, or code for SiT's dx = [v + w s] dt + sqrt(2 w) dW; acts on all but sbdm, kl and kl_eta.
    eta: of kl_eta alone, what a unit of w costs, in units of the loss.
    last: the step that ends at t = 1, where the score is singular. mean: the drift without the noise; tweedie: the
    posterior mean of the data, x + (1 - t) v; euler: Euler's of the ODE, which on this path is the same.
    A step from t = 0, where w is infinite for sbdm and kl, is taken in the limit: see `settled`.
    """

    diffusion: str = "sigma"
    norm: float = 1.0
    normalisation: str = "paper"
    eta: float | None = None
    last: str = "mean"

    stochastic: ClassVar[bool] = True

    def __post_init__(self):
        for name, choices in (("diffusion", FORMS), ("normalisation", NORMALISATIONS), ("last", LAST_STEPS)):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"solver.{name}={value}: choose from {', '.join(choices)}")
        if not is_number(self.norm) or self.norm < 0:
            raise ValueError(f"solver.norm={self.norm}: give a number of at least 0")
        if self.diffusion != "kl_eta" and self.eta is not None:
            raise ValueError(f"solver.eta={self.eta} acts on solver.diffusion=kl_eta alone: give solver.eta=null")
        if self.diffusion == "kl_eta" and (not is_number(self.eta) or self.eta <= 0):
            raise ValueError(
                f"solver.eta={self.eta}: give solver.diffusion=kl_eta a number above 0; w then falls from "
                "norm / sqrt(2 eta), and its limit for no cost is solver.diffusion=kl"
            )

    def w(self, t: float) -> float:
        """The diffusion coefficient in the paper's normalisation."""
        settings = {"norm": self.norm, "normalisation": self.normalisation, "eta": self.eta}
        return coefficient(self.diffusion, t, **settings)

    def drift(self, v: Tensor, x: Tensor, t: float) -> Tensor:
        """v + w s / 2 at a t where w is finite, below 1."""
        return v + self.w(t) / (2 * (1 - t)) * (t * v - x)

    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, drift: Tensor, noise: Tensor) -> Tensor:
        """A step that doesn't end at 1, from x and its drift at t0; noise: standard normal like x."""
        raise NotImplementedError

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Callable[[Tensor, float, float], Tensor]:
        if noise is None:
            raise ValueError(f"{type(self).__name__} adds noise in every step: integrate takes it as noise=")
        numbers = itertools.count()

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            number, v = next(numbers), field(x, at(x, t0))
            if math.isinf(self.w(t0)):
                return settled(x + v, t1, noise(number))
            if t1 == 1:
                return x + (t1 - t0) * (self.drift(v, x, t0) if self.last == "mean" else v)
            return self.advance(field, x, t0, t1, self.drift(v, x, t0), noise(number))

        return step


def settled(data: Tensor, t: float, noise: Tensor) -> Tensor:
    """x_t where w was infinite at time 0, given the posterior mean of the data there: t data + (1 - t) noise.

    With the data held fixed, x_t = t data + (1 - t) z makes of the SDE of norm n an Ornstein-Uhlenbeck process,
    dz = -n z dr + sqrt(2 n) dW in the time r = log(t / (1 - t)). That starts at minus infinity, so that z has forgotten
    where it was and is standard normal, whatever n above 0.
    """
    return t * data + (1 - t) * noise


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
