from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from ditexp.checks import whole
from ditexp.core import FlowModel
from ditexp.guidance.cfg import ClassifierFree


@dataclass(frozen=True, kw_only=True)
class TokenNorm(ClassifierFree):
    """Classifier-free guidance in which every token keeps the norm of its conditional velocity, as in Qwen-Image.

        v = |c| / |g| g,    g = (1 + w) c - w u

    The norms are those of a token: all guided channels of a square of patch x patch elements (Qwen-Image, Wu et al.
    2025, arXiv 2508.02324; QwenImagePipeline of diffusers).
    """

    patch: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("guidance.patch", self.patch, minimum=1)

    def check(self, model: FlowModel) -> None:
        super().check(model)
        _, height, width = model.sample_shape
        if height % self.patch or width % self.patch:
            raise ValueError(
                f"guidance.patch={self.patch}: samples of {height} x {width} have no whole tokens of that side: give "
                "the model's patch size"
            )

    def combine(self, c: Tensor, u: Tensor, w: Tensor | float, *, x: Tensor, t: Tensor) -> Tensor:
        guided = super().combine(c, u, w, x=x, t=t)
        ratio = (self.squares(c) / self.squares(guided).clamp(min=1e-300)).sqrt().to(x.dtype)
        return ratio.repeat_interleave(self.patch, dim=2).repeat_interleave(self.patch, dim=3) * guided

    def squares(self, v: Tensor) -> Tensor:
        """The mean square of each token's elements: (B, 1, H / patch, W / patch) float64."""
        return F.avg_pool2d(v.double().square().mean(1, keepdim=True), self.patch)
