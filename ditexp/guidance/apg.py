from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.guidance.base import dot
from ditexp.guidance.cfg import ClassifierFree
from ditexp.values import append_dims


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjected(ClassifierFree):
    """Adaptive projected guidance (Sadat et al. 2024, arXiv 2410.02416, algorithm 1), without its momentum.

    The paper acts on predicted data D = x + (1 - t) v. It shortens the difference D_c - D_u to the norm r if it is
    longer, multiplies its component parallel to D_c, which oversaturates, by eta, and adds w times the result to D_c.
    In velocities, with d = c - u, this is

        v = c + w min(1, r / ((1 - t) |d|)) (d + (eta - 1) (<d, D_c> / |D_c|^2) D_c),

    which needs no division by 1 - t, and so is finite at t = 1.

    eta: 0 in the paper; 1 without norm_threshold is `cfg`. norm_threshold: r, None for none. In the paper it is from
    2.5 (EDM2) to 15 (Stable Diffusion XL); it is a norm over the sample and grows with the number of elements.

    Momentum needs the differences of earlier steps in order. A field is evaluated at stages of steps, accepted and
    rejected ones, for whichever samples are still on their way; momentum would mean something else with every solver.
    """

    eta: float = 0.0
    norm_threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        number("guidance.eta", self.eta)
        if self.norm_threshold is not None:
            number("guidance.norm_threshold", self.norm_threshold, above=0)

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        difference, data = c - u, x + (1 - t) * c
        along = dot(difference, data) / dot(data, data).clamp(min=1e-300)
        update = difference + append_dims((self.eta - 1) * along, x).to(x.dtype) * data
        if self.norm_threshold is not None:
            norm = (1 - t).flatten().double() * dot(difference, difference).sqrt()
            update = append_dims((self.norm_threshold / norm).clamp(max=1), x).to(x.dtype) * update
        return c + w * update
