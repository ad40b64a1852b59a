"""The preprocessing of each FID evaluator, and Pillow's bicubic resize, reproduced to the last bit.

Each function of an evaluator turns (B, 3, H, W) uint8 into (B, 3, 299, 299) float32 on the same device, normalised for
the network. All raise ValueError for images that are not uint8 RGB.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ditexp.checks import choice

SIZE = 299


def rgb(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> the same as float32. Raises ValueError for other types, since their range is not known."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"need images as (B, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}: convert them")
    return images.float()


def pytorch_fid(images: Tensor) -> Tensor:
    """mseitzer/pytorch-fid: bilinear, with aligned pixel centres, no antialiasing; scaled to [-1, 1]."""
    return 2 * F.interpolate(rgb(images) / 255, (SIZE, SIZE), mode="bilinear", align_corners=False) - 1


def tensorflow(images: Tensor) -> Tensor:
    """The TensorFlow graph of 2015-12-05 (ADM, torch-fidelity, EDM2): TensorFlow 1's bilinear; (x - 128) / 128.

    Output pixel i is sampled at i * input / output, without the half-pixel shift that would align pixel centres.
    """
    return (_lerp(_lerp(rgb(images), dim=3), dim=2) - 128) / 128


def clean(images: Tensor) -> Tensor:
    """clean-fid (Parmar et al. 2022, arXiv 2104.11222): Pillow's antialiased bicubic, clamped; (x - 128) / 128.

    Pillow resizes floats along rows, then along columns; it sums in float64 and stores float32.
    """
    rows = F.interpolate(rgb(images).double(), (images.shape[2], SIZE), mode="bicubic", antialias=True).float()
    resized = F.interpolate(rows.double(), (SIZE, SIZE), mode="bicubic", antialias=True).float()
    return (resized.clamp(0, 255) - 128) / 128


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {"pytorch_fid": pytorch_fid, "tensorflow": tensorflow, "clean": clean}


def resize_named(name: str) -> Callable[[Tensor], Tensor]:
    return RESIZES[choice("feature.resize", name, RESIZES)]


def pillow_bicubic(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Pillow's antialiased bicubic of 8-bit images, as in CLIP's own preprocessing: (B, 3, *size) float32 of integers.

    It resizes rows, then columns, by weights in units of 2^-22, and rounds to 8 bits after each. In float64 all sums
    are exact. size: (height, width).
    """
    height, width = size
    across, along = (_weights(count, wanted).to(images.device) for count, wanted in zip(images.shape[2:], size))
    resized = []
    for image in rgb(images):  # one by one: large images in float64 take much memory
        rows = image.double() if image.shape[2] == width else _round(image.double() @ along.T)
        resized.append(rows if image.shape[1] == height else _round(across @ rows))
    return torch.stack(resized).float()


def _round(sums: Tensor) -> Tensor:
    return ((sums + 2**21) / 2**22).floor().clamp(0, 255)


@functools.lru_cache(maxsize=16)
def _weights(count: int, wanted: int) -> Tensor:
    """(wanted, count) float64 of integers: Pillow's weights of `count` pixels in each of `wanted`, times 2^22."""
    scale = count / wanted
    stretch = max(scale, 1.0)
    weights = torch.zeros(wanted, count, dtype=torch.float64)
    for i in range(wanted):
        centre, support = (i + 0.5) * scale, 2 * stretch
        first, last = max(0, int(centre - support + 0.5)), min(count, int(centre + support + 0.5))
        row = [_cubic((j - centre + 0.5) / stretch) for j in range(first, last)]
        total = sum(row)
        weights[i, first:last] = torch.tensor(
            [math.trunc(w / total * 2**22 + math.copysign(0.5, w)) for w in row], dtype=torch.float64
        )
    return weights


def _cubic(x: float) -> float:
    """Keys' cubic with a = -0.5."""
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _lerp(x: Tensor, dim: int) -> Tensor:
    """TensorFlow 1's linear interpolation along a dimension, in its order of float32 operations."""
    count = x.shape[dim]
    position = torch.arange(SIZE, dtype=torch.float32, device=x.device) * torch.tensor(count / SIZE)
    lower = position.long()
    below, above = (x.index_select(dim, index) for index in (lower, (lower + 1).clamp(max=count - 1)))
    return below + (above - below) * (position - lower).view(-1, *[1] * (3 - dim))
