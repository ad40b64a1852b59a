"""Training objectives: the loss of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.checks import number
from ditexp.model.flow_map_network import FlowMapNetwork
from ditexp.train.network import FlowNetwork


class Objective(Protocol):
    """Computes the loss of a batch."""

    def __call__(
        self, network: Any, images: Tensor, labels: Tensor | Sequence[str], generator: torch.Generator
    ) -> Tensor:
        """network: of a kind that this objective can train; `data.check` tries it. The loss is a scalar."""
        ...


@dataclass(frozen=True)
class FlowMatching:
    """Rectified flow (Liu et al. 2022): E |v(x_t, t, y) - (x_1 - x_0)|^2 with t uniform in [0, 1].

    label_dropout: the fraction in [0, 1) of labels, or captions, that are dropped; guidance needs some. sizes: for a
    network of several resolutions, the sides in pixels that batches are resized to, drawn uniformly: multiples of its
    patch_size, no larger than the images. None: images as they are.
    """

    label_dropout: float = 0.1
    sizes: Sequence[int] | None = None

    def __post_init__(self) -> None:
        number("objective.label_dropout", self.label_dropout, minimum=0, below=1)
        sizes = self.sizes
        if sizes is not None and not (
            isinstance(sizes, Sequence) and sizes and all(type(side) is int and side > 0 for side in sizes)
        ):
            raise ValueError(f"objective.sizes={sizes}: give a list of sides in whole pixels, such as [4,8], or null")

    def __call__(
        self, network: FlowNetwork, images: Tensor, labels: Tensor | Sequence[str], generator: torch.Generator
    ) -> Tensor:
        """images (B, C, H, W) in [-1, 1], labels (B,) int64 or B captions -> scalar loss."""
        if isinstance(network, FlowMapNetwork):
            raise ValueError("objective=flow trains a network of one time, and this one has two: choose flow_map")
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
    """Cross-entropy of the class; the bundled feature network was trained so."""

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """images (B, C, H, W) in [-1, 1], labels (B,) int64 -> scalar loss."""
        return F.cross_entropy(network(images)[1], labels)
