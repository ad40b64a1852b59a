"""What solvers of the SDE share: the drift, and the steps at both ends."""

from __future__ import annotations

import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import choice, number
from ditexp.core import StepNoise, VelocityField
from ditexp.solver.base import FixedStep, Step, required_noise
from ditexp.solver.diffusion import FORMS, NORMALISATIONS, coefficient

LAST_STEPS = ("mean", "tweedie", "euler")


@dataclass(frozen=True)
class SDE(FixedStep):
    """Integrates dx = [v + w_t s / 2] dt + sqrt(w_t) dW, whose x_t has the distribution of the flow's (SiT, section 2).

    The score s = (t v - x) / (1 - t) is computed from the velocity, so a step evaluates the network as often as the
    same method of the ODE; SiT's code evaluates it for v and again for s. Noise is keyed by (seed, index, step).

    order: the weak order, p such that the error of expectations at t = 1 falls as steps^-p.
    diffusion: the form of w_t, see docs/sde.md. norm: its size; at 0 the SDE is the ODE (except for decreasing).
    normalisation: paper, or code for SiT's dx = [v + w s] dt + sqrt(2 w) dW; it acts on all but sbdm, kl and kl_eta.
    eta: for kl_eta only, the cost of a unit of w, in units of the loss.
    last: the step that ends at t = 1, where the score is singular. mean: the drift without the noise; tweedie: the
    posterior mean of the data, x + (1 - t) v; euler: Euler's step of the ODE, which on this path is the same.
    A step from t = 0, where w is infinite for sbdm and kl, is its limit: see `step_from_noise`.
    """

    diffusion: str = "sigma"
    norm: float = 1.0
    normalisation: str = "paper"
    eta: float | None = None
    last: str = "mean"

    stochastic = True

    def __post_init__(self) -> None:
        choice("solver.diffusion", self.diffusion, FORMS)
        choice("solver.normalisation", self.normalisation, NORMALISATIONS)
        choice("solver.last", self.last, LAST_STEPS)
        number("solver.norm", self.norm, minimum=0)
        if self.diffusion == "kl_eta":
            if self.eta is None:
                raise ValueError("solver.diffusion=kl_eta needs the cost of noise: give solver.eta a number above 0")
            number("solver.eta", self.eta, above=0)  # the limit at 0 is solver.diffusion=kl
        elif self.eta is not None:
            raise ValueError(f"solver.eta={self.eta} acts on solver.diffusion=kl_eta only: give solver.eta=null")

    def w(self, t: float) -> float:
        """The diffusion coefficient in the paper's normalisation."""
        return coefficient(self.diffusion, t, norm=self.norm, normalisation=self.normalisation, eta=self.eta)

    def drift(self, v: Tensor, x: Tensor, t: float) -> Tensor:
        """v + w s / 2 at a t where w is finite, below 1."""
        return v + self.w(t) / (2 * (1 - t)) * (t * v - x)

    def drift_of(self, field: VelocityField, x: Tensor, t: float) -> Tensor:
        """The drift of a field at x (B, ...) and t."""
        return self.drift(field(x, t), x, t)

    @abstractmethod
    def advance(self, field: VelocityField, x: Tensor, t0: float, t1: float, noise: Tensor) -> Tensor:
        """A step from x at t0 that does not end at 1. noise: standard normal, like x."""

    def begin(self, field: VelocityField, noise: StepNoise | None) -> Step:
        draw, numbers = required_noise(self, noise), itertools.count()

        def step(x: Tensor, t0: float, t1: float) -> Tensor:
            number = next(numbers)
            if math.isinf(self.w(t0)):
                return step_from_noise(x + field(x, t0), t1, draw(number))
            if t1 < 1:
                return self.advance(field, x, t0, t1, draw(number))
            v = field(x, t0)
            return x + (t1 - t0) * (self.drift(v, x, t0) if self.last == "mean" else v)

        return step


def step_from_noise(data: Tensor, t: float, noise: Tensor) -> Tensor:
    """The step from time 0, where w is infinite, to t: t data + (1 - t) noise. data: its posterior mean at time 0.

    With fixed data, substituting x_t = t data + (1 - t) z turns the SDE with norm n into an Ornstein-Uhlenbeck process,
    dz = -n z dr + sqrt(2 n) dW in the time r = log(t / (1 - t)). It starts at r = -infinity, so z has forgotten its
    start and is standard normal for every n above 0.
    """
    return t * data + (1 - t) * noise
