from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ditexp.checks import number
from ditexp.guidance.base import dot
from ditexp.guidance.cfg import ClassifierFree
from ditexp.values import append_dims


@dataclass(frozen=True, kw_only=True)
class NormCap(ClassifierFree):
    """Classifier-free guidance with a cap on the norm of each sample's velocity, as in Z-Image's pipeline.

        v = min(1, k |c| / |g|) g,    g = (1 + w) c - w u

    cap: k, `cfg_normalization` in ZImagePipeline of diffusers; None for none, its default, which is `cfg`. Its
    `guidance_scale` is w, and its `cfg_truncation` is the interval [0, cfg_truncation] with both ends.
    """

    cap: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cap is not None:
            number("guidance.cap", self.cap, above=0)

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        guided = super().combine(c, u, w, x=x, t=t)
        if self.cap is None:
            return guided
        ratio = self.cap * (dot(c, c) / dot(guided, guided).clamp(min=1e-300)).sqrt()
        return append_dims(ratio.clamp(max=1), x).to(x.dtype) * guided
