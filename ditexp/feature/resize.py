"""What each evaluator does to an image before FID's network sees it, to the last bit.

All take (B, 3, H, W) uint8 and give (B, 3, 299, 299) float32, normalised as the network expects, on the same device.
They raise ValueError for images that are not uint8 RGB.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

SIZE = 299


def rgb(images: Tensor) -> Tensor:
    """(B, 3, H, W) uint8 -> the same as float32. Raises ValueError for anything else, whose range is anyone's guess."""
    if images.dtype != torch.uint8 or images.dim() != 4 or images.shape[1] != 3:
        raise ValueError(f"need images as (B, 3, H, W) uint8, got {tuple(images.shape)} {images.dtype}: convert them")
    return images.float()


def pytorch_fid(images: Tensor) -> Tensor:
    """mseitzer/pytorch-fid: bilinear between pixel centres, no antialiasing; [-1, 1]."""
    return 2 * F.interpolate(rgb(images) / 255, (SIZE, SIZE), mode="bilinear", align_corners=False) - 1


def tensorflow(images: Tensor) -> Tensor:
    """The graph of 2015-12-05 that ADM, torch-fidelity and EDM2 follow: TensorFlow 1's bilinear; (x - 128) / 128.

    Output i lies at i * input / output, without the shift of half a pixel that puts centres on centres.
    """
    return (_lerp(_lerp(rgb(images), dim=3), dim=2) - 128) / 128


def clean(images: Tensor) -> Tensor:
    """clean-fid (Parmar et al. 2022, arXiv 2104.11222): Pillow's antialiased bicubic; cut to 0..255; (x - 128) / 128.

    Pillow resizes floats row-wise, then column-wise, adds up in float64 and keeps float32.
    """
    rows = F.interpolate(rgb(images).double(), (images.shape[2], SIZE), mode="bicubic", antialias=True).float()
    resized = F.interpolate(rows.double(), (SIZE, SIZE), mode="bicubic", antialias=True).float()
    return (resized.clamp(0, 255) - 128) / 128


RESIZES: dict[str, Callable[[Tensor], Tensor]] = {"pytorch_fid": pytorch_fid, "tensorflow": tensorflow, "clean": clean}


def resize_named(name: str) -> Callable[[Tensor], Tensor]:
    if name not in RESIZES:
        raise ValueError(f"feature.resize={name} is unknown: choose one of {', '.join(RESIZES)}")
    return RESIZES[name]


def _lerp(x: Tensor, dim: int) -> Tensor:
    """TensorFlow 1's linear interpolation along a dimension, in its order of float32 operations."""
    count = x.shape[dim]
    position = torch.arange(SIZE, dtype=torch.float32, device=x.device) * torch.tensor(count / SIZE)
    lower = position.long()
    below, above = (x.index_select(dim, index) for index in (lower, (lower + 1).clamp(max=count - 1)))
    return below + (above - below) * (position - lower).view(-1, *[1] * (3 - dim))
