"""Autoencoders without a network, so that what tests expect is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Blocks:
    """Each 2 x 2 block of pixels becomes one latent of four times the channels, turned by an orthogonal matrix.

    It is exact and keeps lengths. levels: None; or how many values an element is rounded to per unit, which loses some.
    """

    image_shape: tuple[int, int, int]
    levels: int | None = None

    @property
    def identity(self) -> dict:
        return {"codec": "blocks", "levels": self.levels}

    def codec(self, sample_shape) -> Blocks:
        return self

    def turn(self, like: Tensor) -> Tensor:
        """(4 C, 4 C)."""
        draw = torch.randn(2 * (4 * self.image_shape[2],), generator=torch.Generator().manual_seed(7))
        return torch.linalg.qr(draw.double()).Q.to(like)

    def decode(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(torch.einsum("dc,bdhw->bchw", self.turn(x), x), 2)

    def encode(self, images: Tensor) -> Tensor:
        x = torch.einsum("dc,bchw->bdhw", self.turn(images), F.pixel_unshuffle(images, 2))
        return x if self.levels is None else (self.levels * x).round() / self.levels

    def to(self, device) -> Blocks:
        return self
