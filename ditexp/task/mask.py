"""Which pixels inpainting is to fill: half of the image, a box, some drawn for each sample, or those of a picture.

A mask is called as mask(sampler, indices) and gives (B, 1, H, W) bool, or (1, 1, H, W) where it is the same for all
samples, on the sampler's device: true where a pixel is to be filled, false where it is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ditexp.files.content import unchanged
from ditexp.files.image import opened_image

SIDES = ("left", "right", "top", "bottom")


@dataclass(frozen=True)
class Half:
    """side: the half that is known. The line or column in the middle of an odd number is to be filled."""

    side: str = "left"

    def __post_init__(self):
        if self.side not in SIDES:
            raise ValueError(f"task.side={self.side}: choose the side that is known from {', '.join(SIDES)}")

    def __call__(self, sampler, indices: Sequence[int]) -> Tensor:
        fill = torch.ones(sampler.model.sample_shape[1:], dtype=torch.bool, device=sampler.device)
        dimension = 0 if self.side in ("top", "bottom") else 1
        size = fill.shape[dimension]
        fill.narrow(dimension, 0 if self.side in ("left", "top") else size - size // 2, size // 2).fill_(False)
        return fill[None, None]


@dataclass(frozen=True)
class Box:
    """box: what is to be filled, (top, left, bottom, right) in pixels, the last two exclusive.

    None: the central half of either side, a quarter of the image.
    """

    box: Sequence[int] | None = None

    def __post_init__(self):
        if self.box is None:
            return
        if not isinstance(self.box, Sequence) or len(self.box) != 4 or not all(type(side) is int for side in self.box):
            raise ValueError(f"task.box={self.box}: give [top,left,bottom,right] in pixels, or null for the centre")
        object.__setattr__(self, "box", tuple(self.box))  # a list of Hydra's cannot enter the set's id

    def __call__(self, sampler, indices: Sequence[int]) -> Tensor:
        _, height, width = sampler.model.sample_shape
        top, left, bottom, right = self.box or (height // 4, width // 4, height - height // 4, width - width // 4)
        if not (0 <= top < bottom <= height and 0 <= left < right <= width):
            raise ValueError(
                f"task.box={list(self.box)}: give 0 <= top < bottom <= {height} and 0 <= left < right <= {width}"
            )
        fill = torch.zeros(height, width, dtype=torch.bool, device=sampler.device)
        fill[top:bottom, left:right] = True
        return fill[None, None]


@dataclass(frozen=True)
class RandomPixels:
    """Other pixels in each sample, drawn by its own generator. share: of pixels that are to be filled."""

    share: float = 0.5

    def __post_init__(self):
        if isinstance(self.share, bool) or not isinstance(self.share, int | float) or not 0 < self.share < 1:
            raise ValueError(f"task.share={self.share}: give the share of pixels to be filled, between 0 and 1")

    def __call__(self, sampler, indices: Sequence[int]) -> Tensor:
        draws = sampler.more_noise(indices, 0, (1, *sampler.model.sample_shape[1:]))
        ranks = draws.flatten(1).argsort(stable=True).argsort().view_as(draws)
        return ranks < round(self.share * draws[0].numel())


class ImageMask:
    """A black and white image of the size of the samples: white is to be filled, black is known, as in diffusers.

    Raises ValueError for a file that is missing, no image, or holds other colours than black and white.
    """

    def __init__(self, path: str):
        self.name = f"task.mask={path}"
        if not Path(path).is_file():
            raise ValueError(f"{self.name}: choose half, box or random, or give the path of a black and white image")
        with opened_image(path, name=self.name):  # its header, before it is hashed
            pass
        with unchanged(path) as sha256, opened_image(path, name=self.name) as image:
            colours = np.asarray(image.convert("RGBA"))
        white, black = ((colours == (level, level, level, 255)).all(-1) for level in (255, 0))
        if not (white | black).all():
            share = 1 - (white | black).mean()
            raise ValueError(
                f"{self.name}: {share:.1%} of the pixels are neither black (known) nor white (to be filled): "
                "save it as a PNG of these two, without greys and transparency"
            )
        self.fill = torch.from_numpy(white)
        self.identity = {"mask": "image", "sha256": sha256}

    def __call__(self, sampler, indices: Sequence[int]) -> Tensor:
        (height, width), (_, *size) = self.fill.shape, sampler.model.sample_shape
        if [height, width] != size:
            raise ValueError(f"{self.name} is {width} x {height}, but samples are {size[1]} x {size[0]}: resize it")
        return self.fill[None, None].to(sampler.device)
