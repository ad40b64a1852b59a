"""Which pixels inpainting fills: half of the image, a box, random pixels of each sample, or those of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from ditexp.checks import number
from ditexp.files.content import unchanged
from ditexp.files.image import opened_image
from ditexp.task.originals import pixels_per_element

if TYPE_CHECKING:
    from ditexp.sampler import Sampler

SIDES = ("left", "right", "top", "bottom")


class Mask(Protocol):
    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        """(B, 1, H, W) bool on the sampler's device, true where a pixel is to be filled, false where it is known.

        (1, 1, H, W) if it is the same for all samples. Raises ValueError if it does not fit the model's images.
        """
        ...


@dataclass(frozen=True)
class Half:
    """side: the half that is known. The middle line or column of an odd number is filled."""

    side: str = "left"

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise ValueError(f"task.side={self.side}: choose the side that is known from {', '.join(SIDES)}")

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        fill = torch.ones(sampler.codec.image_shape[:2], dtype=torch.bool, device=sampler.device)
        dimension = 0 if self.side in ("top", "bottom") else 1
        size = fill.shape[dimension]
        fill.narrow(dimension, 0 if self.side in ("left", "top") else size - size // 2, size // 2).fill_(False)
        return fill[None, None]


@dataclass(frozen=True)
class Box:
    """box: the pixels to fill, (top, left, bottom, right), the last two exclusive.

    None: the central half of each side, a quarter of the image.
    """

    box: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.box is None:
            return
        if not isinstance(self.box, Sequence) or len(self.box) != 4 or not all(type(side) is int for side in self.box):
            raise ValueError(f"task.box={self.box}: give [top,left,bottom,right] in pixels, or null for the centre")
        object.__setattr__(self, "box", tuple(self.box))  # Hydra's lists cannot enter the set's id

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        height, width, _ = sampler.codec.image_shape
        box = self.box or (height // 4, width // 4, height - height // 4, width - width // 4)
        top, left, bottom, right = box
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"task.box={list(box)}: give 0 <= top < bottom <= {height} and 0 <= left < right <= {width}"
            )
        fill = torch.zeros(height, width, dtype=torch.bool, device=sampler.device)
        fill[top:bottom, left:right] = True
        return fill[None, None]


@dataclass(frozen=True)
class RandomPixels:
    """Different pixels in each sample, drawn from its own random numbers. share: the fraction that is filled.

    For models of latents, whole blocks of the pixels that one latent stands for: single pixels would leave none known.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        number("task.share", self.share, above=0, below=1)

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        draws = sampler.extra_noise(indices, 0, (1, *sampler.model.sample_shape[1:]))
        ranks = draws.flatten(1).argsort(stable=True).argsort().view_as(draws)
        fill, block = ranks < round(self.share * draws[0].numel()), pixels_per_element(sampler)
        return fill.repeat_interleave(block, dim=2).repeat_interleave(block, dim=3)


class ImageMask:
    """A black and white image of the size of the model's images: white is filled, black is known, as in diffusers.

    Raises ValueError for a file that is missing or no image, and for other colours than black and white.
    """

    def __init__(self, path: str) -> None:
        self.name = f"task.mask={path}"
        if not Path(path).is_file():
            raise ValueError(f"{self.name}: choose half, box or random, or give the path of a black and white image")
        with opened_image(path, name=self.name):  # reads the header, before the file is hashed
            pass
        with unchanged(path) as sha256, opened_image(path, name=self.name) as image:
            colours = np.asarray(image.convert("RGBA"))
        white, black = ((colours == (level, level, level, 255)).all(-1) for level in (255, 0))
        if not (white | black).all():
            fraction = 1 - (white | black).mean()
            raise ValueError(
                f"{self.name}: {fraction:.1%} of the pixels are neither black (known) nor white (to be filled): save "
                "it as a PNG of these two colours, without greys or transparency"
            )
        self.fill = torch.from_numpy(white)
        self.identity = {"mask": "image", "sha256": sha256}

    def __call__(self, sampler: Sampler, indices: Sequence[int]) -> Tensor:
        (height, width), size = self.fill.shape, sampler.codec.image_shape[:2]
        if (height, width) != tuple(size):
            raise ValueError(f"{self.name} is {width} x {height}, but samples are {size[1]} x {size[0]}: resize it")
        return self.fill[None, None].to(sampler.device)


def mask_of(
    mask: str, *, side: str | None = None, box: Sequence[int] | None = None, share: float | None = None
) -> Mask:
    """The mask that task.mask names, with its setting, or the image at that path. None: the mask's default."""
    if mask == "half":
        return Half() if side is None else Half(side)
    if mask == "box":
        return Box(box)
    if mask == "random":
        return RandomPixels() if share is None else RandomPixels(share)
    return ImageMask(mask)
