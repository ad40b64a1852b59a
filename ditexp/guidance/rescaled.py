from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.guidance.base import dot
from ditexp.guidance.cfg import ClassifierFree
from ditexp.values import append_dims


@dataclass(frozen=True, kw_only=True)
class Rescaled(ClassifierFree):
    """Classifier-free guidance with the standard deviation of c (Lin et al. 2024, arXiv 2305.08891, section 3.4).

        v = (phi std(c) / std(g) + 1 - phi) g,    g = (1 + w) c - w u

    The std is over all guided elements of a sample. It acts on the output of the network, hence on the velocity, as in
    the paper (whose network predicts v) and in diffusers' `guidance_rescale`. TRELLIS rescales the predicted data
    x + (1 - t) v.

    phi: in [0, 1]; 0 is `cfg`, 0.7 is the paper's.
    """

    phi: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        number("guidance.phi", self.phi, minimum=0, maximum=1)

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        guided = super().combine(c, u, w, x=x, t=t)
        ratio = (variance(c) / variance(guided).clamp(min=1e-300)).sqrt()
        return append_dims(1 + self.phi * (ratio - 1), x).to(x.dtype) * guided


def variance(v: Tensor) -> Tensor:
    """The variance of each sample's elements, times their number: (B,) float64."""
    offset = v.double() - append_dims(v.flatten(1).double().mean(1), v)
    return dot(offset, offset)
