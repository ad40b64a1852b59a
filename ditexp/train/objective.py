"""What a network is trained for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow (Liu et al. 2022): E |v(x_t, t, y) - (x_1 - x_0)|^2 with t uniform in [0, 1].

    label_dropout: share in [0, 1) of labels, or captions, replaced by none, which makes guidance possible.
    sizes: sides in pixels that batches are reduced to, each drawn with equal chance, for a network of several
    resolutions: multiples of its patch_size, and no larger than the images; None: images as they are.
    """

    label_dropout: float = 0.1
    sizes: Sequence[int] | None = None

    def __post_init__(self):
        if type(self.label_dropout) not in (int, float) or not 0 <= self.label_dropout < 1:
            raise ValueError(
                f"objective.label_dropout={self.label_dropout}: give a share between 0 and 1; at 1 no label is trained"
            )
        sizes = self.sizes
        if sizes is not None and not (
            isinstance(sizes, Sequence) and sizes and all(type(side) is int and side > 0 for side in sizes)
        ):
            raise ValueError(f"objective.sizes={sizes}: give a list of sides in whole pixels, such as [4,8], or null")

    def __call__(
        self, network: nn.Module, images: Tensor, labels: Tensor | Sequence[str], generator: torch.Generator
    ) -> Tensor:
        """images (B, C, H, W) in [-1, 1], labels (B,) int64 or B captions -> scalar loss."""
        if self.sizes:
            largest, patch_size = min(images.shape[2:]), network.patch_size
            if any(side > largest or side % patch_size for side in self.sizes):
                raise ValueError(
                    f"objective.sizes={list(self.sizes)}: give multiples of {patch_size}, the network's patch_size, up "
                    f"to the images' {largest} pixels"
                )
            side = self.sizes[int(torch.randint(len(self.sizes), (), generator=generator))]
            images = F.interpolate(images, (side, side), mode="bicubic", antialias=True)
        shape, device = images.shape, images.device
        x0 = torch.randn(shape, generator=generator).to(device)
        t = torch.rand(len(images), generator=generator).to(device)
        if network.has_null:
            if not self.label_dropout:
                raise ValueError("objective.label_dropout=0 never trains the null class: give +network.has_null=false")
            dropped = torch.rand(len(images), generator=generator) < self.label_dropout
            labels = network.drop(labels, dropped.to(device))
        weight = t.view(-1, 1, 1, 1)
        return F.mse_loss(network((1 - weight) * x0 + weight * images, t, labels), images - x0)


@dataclass(frozen=True)
class Classification:
    """Cross-entropy of the class: how the bundled feature network was made."""

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """images (B, C, H, W) in [-1, 1], labels (B,) int64 -> scalar loss."""
        return F.cross_entropy(network(images)[1], labels)
