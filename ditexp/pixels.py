"""Images in [-1, 1] as pixels, and the codec of models that make images without a VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NoReturn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# How each rounds x in [-1, 1] to 0 ... 255: half_up in DiT, SiT, LightningDiT and EDM; half_even in JiT and diffusers,
# with the same pixels except on exact ties; truncate in REPA and RAE, whose images are half a level darker.
ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "half_up": lambda x: 127.5 * x + 128,
    "half_even": lambda x: (255 * ((x + 1) / 2)).round(),
    "truncate": lambda x: 255 * ((x + 1) / 2),
}


def to_pixels(images: Tensor, rounding: str = "half_up") -> Tensor:
    """Images (B, C, H, W) in [-1, 1] -> uint8. rounding: one of ROUNDINGS; values beyond the range are clamped."""
    return ROUNDINGS[rounding](images.float()).clamp(0, 255).byte()


@dataclass(frozen=True)
class Pixels:
    """The codec of a model that makes images itself. image_shape: (H, W, C), C = 1 (grey) or 3 (RGB).

    scale: what a sample is multiplied by to be an image in [-1, 1]. JiT's is its noise scale, since here every model's
    noise has standard deviation 1.
    """

    image_shape: tuple[int, int, int]
    scale: float = 1.0

    @property
    def identity(self) -> dict:
        return {"codec": "pixels", "scale": self.scale}

    def decode(self, x: Tensor) -> Tensor:
        return x if self.scale == 1 else self.scale * x

    def encode(self, images: Tensor) -> Tensor:
        return images if self.scale == 1 else images / self.scale

    def to(self, device: torch.device | str) -> Pixels:
        return self


class WithoutEncoder:
    """A codec that makes images of samples, and no samples of images."""

    def encode(self, images: Tensor) -> NoReturn:
        raise ValueError("this VAE is a decoder alone, so images can't become samples")


@dataclass(frozen=True)
class Undecoded:
    """Stands for the VAE where latents are integrated and never decoded. It is its own codec."""

    image_shape: ClassVar[tuple[int, int, int]] = (0, 0, 0)
    identity: ClassVar[dict] = {"codec": "none"}

    def codec(self, sample_shape: Sequence[int]) -> Undecoded:
        return self

    def decode(self, x: Tensor) -> NoReturn:
        raise TypeError("these latents have no VAE")

    def encode(self, images: Tensor) -> NoReturn:
        raise TypeError("these latents have no VAE")

    def to(self, device: torch.device | str) -> Undecoded:
        return self


@dataclass(frozen=True)
class Unencoded:
    """Stands for the codec where only evaluations are counted: every image is encoded as zeros.

    image_shape: (H, W, C). sample_shape: (C, H, W) of the model's samples.
    """

    image_shape: tuple[int, int, int]
    sample_shape: Sequence[int]
    identity: ClassVar[dict] = {"codec": "none"}

    def decode(self, x: Tensor) -> NoReturn:
        raise TypeError("evaluations are counted without a decoder")

    def encode(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), *self.sample_shape)

    def to(self, device: torch.device | str) -> Unencoded:
        return self
