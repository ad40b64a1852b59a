"""Autoencoders without a trained network, and a model of latents, so that what tests expect is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ditexp.model.analytic import GaussianMixture
from ditexp.values import Condition


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


@dataclass(frozen=True)
class Convolved:
    """A VAE of 4 x 4 x 4 latents and grey images of 8 x 8 pixels: one transposed convolution, its weights by a seed."""

    seed: int = 0

    image_shape: ClassVar[tuple[int, int, int]] = (8, 8, 1)

    @property
    def identity(self) -> dict:
        return {"codec": "convolved", "seed": self.seed}

    @property
    def weights(self) -> Tensor:
        return torch.randn((4, 1, 2, 2), generator=torch.Generator().manual_seed(self.seed))

    def codec(self, sample_shape) -> Convolved:
        return self

    def decode(self, x: Tensor) -> Tensor:
        return F.conv_transpose2d(x, self.weights.to(x), stride=2)

    def encode(self, images: Tensor) -> Tensor:
        return F.conv2d(images, self.weights.to(images), stride=2) / 4

    def to(self, device) -> Convolved:
        return self


class LatentMixture(GaussianMixture):
    """An exact model of 4 x 4 x 4 latents, which counts how many samples its velocity is asked for."""

    rows: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__(shape=(4, 4, 4))
        self.codec = None

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        LatentMixture.rows += len(x)
        return super().__call__(x, t, condition)
