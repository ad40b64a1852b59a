"""Latents <-> images through a network of diffusers, in batches, at a precision of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ditexp.pixels import WithoutEncoder
from ditexp.precision import full_float32
from ditexp.vae.statistics import Normalization

PRECISIONS = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PIXELS = 16 * 256 * 256  # of all images of a batch, by default
TILE, UNTILED = 512, 1024  # pixels: the side of a tile, and the largest side that `auto` leaves in one piece


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How a network runs. batch_size: images a call; None: as many as have PIXELS pixels together.

    tiling: whether images of more than TILE pixels a side are decoded in tiles that overlap by a quarter; None: those
    of more than UNTILED pixels are. precision: of the network's weights and its arithmetic, one of PRECISIONS.
    """

    batch_size: int | None = None
    tiling: bool | None = None
    precision: str = "fp32"

    def images_a_call(self, height: int, width: int) -> int:
        return self.batch_size or max(1, PIXELS // (height * width))

    def tiled(self, height: int, width: int) -> bool:
        """Whether images of this size are cut into tiles, which changes pixels."""
        return max(height, width) > (UNTILED if self.tiling is None else TILE if self.tiling else float("inf"))


class LatentCodec:
    """Samples x of a model of latents <-> images, through an AutoencoderKL or AutoencoderTiny of diffusers.

    The network's latents are those that `normalization` makes of x. Images become the mode of the posterior, so that
    encoding draws nothing. image_shape: (H, W, C). factor: the side of an image over that of its latents.
    """

    def __init__(
        self,
        network: Any,
        *,
        normalization: Normalization,
        decoding: Decoding,
        factor: int,
        image_shape: tuple[int, int, int],
        identity: dict,
    ) -> None:
        self.network, self.normalization, self.decoding = network, normalization, decoding
        self.factor, self.image_shape = factor, image_shape
        height, width, _ = image_shape
        self.identity = {
            **identity,
            "precision": decoding.precision,
            "batch_size": decoding.images_a_call(height, width),  # changes the last bits of float32
            **({"tiles": TILE} if decoding.tiled(height, width) else {}),
        }

    def decode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) float32 in about [-1, 1] of samples x (B, c, h, w)."""
        height, width = self.factor * x.shape[-2], self.factor * x.shape[-1]
        latents = self.normalization.to(x.device).denormalize(x.float())
        return self._in_batches(lambda z: self.network.decode(z, return_dict=False)[0], latents, height, width)

    def encode(self, images: Tensor) -> Tensor:
        """The samples (B, c, h, w) of images (B, C, H, W) in [-1, 1].

        Raises ValueError for sides that are no multiples of the factor.
        """
        height, width = images.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"images of {height} x {width} pixels have no latents: this VAE needs multiples of {self.factor}"
            )
        latents = self._in_batches(self._mode, images, height, width)
        return self.normalization.to(latents.device).normalize(latents)

    def to(self, device: torch.device | str) -> LatentCodec:
        self.network.to(device)
        return self

    def _mode(self, images: Tensor) -> Tensor:
        """The mode of the posterior, or what a network without a posterior encodes."""
        encoded = self.network.encode(images, return_dict=False)[0]
        return encoded if isinstance(encoded, Tensor) else encoded.mode()

    @torch.no_grad()
    def _in_batches(self, function: Callable[[Tensor], Tensor], x: Tensor, height: int, width: int) -> Tensor:
        """A function of the network on images of this size, or on their latents; in float32."""
        self.network.use_tiling = self.decoding.tiled(height, width)
        dtype = PRECISIONS[self.decoding.precision]
        with matrix_products(self.decoding.precision):
            batches = x.split(self.decoding.images_a_call(height, width))
            return torch.cat([function(batch.to(dtype)).float() for batch in batches])


class LatentDecoder(WithoutEncoder, LatentCodec):
    """Samples x of a model of latents -> images, by a network without an encoder."""


@contextmanager
def matrix_products(precision: str) -> Generator[None]:
    """float32 products at this precision, whatever that of the sampler."""
    with full_float32():
        if precision == "tf32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.allow_tf32 = True
        yield
