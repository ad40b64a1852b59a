"""A model whose exact velocity is known: the ground truth of all solver tests."""

from __future__ import annotations

import torch
from torch import Tensor

from ditexp.pixels import Pixels
from ditexp.values import Condition, required


class GaussianMixture:
    """The rectified flow from noise to a class-conditional mixture of isotropic Gaussians, in closed form.

    With x_1 ~ N(m, s^2 I) for component m and x_0 ~ N(0, I), x_t ~ N(t m, (t^2 s^2 + (1 - t)^2) I), and

        E[x_1 - x_0 | x_t, m] = m + (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2) (x_t - t m),

    averaged over components with their posterior weights. The null condition is the mixture over all classes.
    The dtype is that of x. The velocity of a sample does not depend on its batch.

    means: (classes, components, C, H, W), drawn with a fixed seed and the standard deviation `spread`. std: s.
    """

    has_null, start, start_std = True, 0.0, 1.0
    class_names: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        num_classes: int = 10,
        components: int = 2,
        shape: tuple[int, int, int] = (1, 8, 8),
        spread: float = 0.5,
        std: float = 0.25,
        seed: int = 0,
    ) -> None:
        channels, height, width = shape
        self.sample_shape = (channels, height, width)
        self.codec = Pixels((height, width, channels))
        self.num_classes, self.std = num_classes, std
        draw = torch.Generator().manual_seed(seed)
        size = (num_classes, components, *self.sample_shape)
        self.means = spread * torch.randn(size, generator=draw, dtype=torch.float64)
        self.identity = {
            "model": "gaussian_mixture",
            "shape": list(self.sample_shape),
            "num_classes": num_classes,
            "components": components,
            "spread": spread,
            "std": std,
            "seed": seed,
        }

    def to(self, device: torch.device | str) -> GaussianMixture:
        self.means = self.means.to(device)
        return self

    def null(self, condition: Condition) -> Condition:
        return Condition(torch.full_like(required(condition.labels), self.num_classes))

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        t = t.view(-1, 1, 1)
        variance = (t * self.std) ** 2 + (1 - t) ** 2
        means = self.means.to(x.dtype).flatten(2).flatten(0, 1)  # (K, D), K = classes x components
        offset = x.flatten(1).unsqueeze(1) - t * means  # (B, K, D)
        log_weight = -offset.square().sum(-1) / (2 * variance.squeeze(-1))
        log_weight = log_weight.masked_fill(~self.belongs(required(condition.labels)), -torch.inf)
        velocity = means + (t * self.std**2 - (1 - t)) / variance * offset
        return (log_weight.softmax(1).unsqueeze(-1) * velocity).sum(1).view_as(x)

    def belongs(self, labels: Tensor) -> Tensor:
        """(B, K): whether a component belongs to the sample's class; all belong to the null class."""
        classes = torch.arange(self.num_classes, device=labels.device).repeat_interleave(self.means.shape[1])
        return (labels[:, None] == classes) | (labels[:, None] == self.num_classes)
