from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.guidance.base import dot, number, per_sample
from ditexp.guidance.cfg import ClassifierFree


@dataclass(frozen=True, kw_only=True)
class Rescaled(ClassifierFree):
    """Classifier-free guidance with c's standard deviation (Lin et al. 2024, arXiv 2305.08891, section 3.4).

    v = (phi std(c) / std(g) + 1 - phi) g, where g = (1 + w) c - w u and each sample's std is over all of its guided
    elements. It acts on what the network predicts, as in the paper (whose network predicts v) and in diffusers'
    `guidance_rescale`, hence on the velocity; TRELLIS does it to the predicted data x + (1 - t) v.

    phi: in [0, 1]; 0 is `cfg`, 0.7 is the paper's.
    """

    phi: float = 0.7

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= number("guidance.phi", self.phi) <= 1:
            raise ValueError(f"guidance.phi={self.phi}: give a number in [0, 1]; 0 is guidance=cfg")

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        guided = super().combine(c, u, w, x=x, t=t)
        ratio = (variance(c) / variance(guided).clamp(min=1e-300)).sqrt()
        return per_sample(1 + self.phi * (ratio - 1), x) * guided


def variance(v: Tensor) -> Tensor:
    """Of each sample's elements, times their number: (B,) float64."""
    offset = v.double() - per_sample(v.flatten(1).double().mean(1), v.double())
    return dot(offset, offset)
