"""Where tokens are: embeddings of positions that are added to them, and rotations of queries and keys."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

Rope = tuple[Tensor, Tensor]  # cosines and sines (N, D) of every token's rotations


def rotate(x: Tensor, rope: Rope) -> Tensor:
    """x (..., N, D), each pair of neighbours (2 k, 2 k + 1) rotated by its token's angle (Su et al. 2021)."""
    cosines, sines = rope
    turned = torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)
    return x * cosines + turned * sines


def image_rope(height: int, width: int, *, trained_side: int, head_width: int, device: torch.device) -> Rope:
    """Rotations of a grid of patches: half of a head for the row, then half for the column, as in EVA-02.

    Angles are position / 10000^(2 k / (head_width / 2)). On another grid than the trained one, positions are
    stretched to it.
    """
    frequencies = rotation_frequencies(head_width // 2, device)
    rows, columns = (
        (torch.arange(side, device=device) / side * trained_side)[:, None] * frequencies for side in (height, width)
    )
    grid = (height, width, head_width // 2)
    angles = torch.cat([rows[:, None].expand(grid), columns[None].expand(grid)], dim=-1).flatten(0, 1)
    return angles.cos(), angles.sin()


def sequence_rope(count: int, *, head_width: int, device: torch.device) -> Rope:
    """Rotations of `count` tokens in a row, by position / 10000^(2 k / head_width)."""
    positions = torch.arange(count, device=device).float()
    angles = positions[:, None] * rotation_frequencies(head_width, device)
    return angles.cos(), angles.sin()


def rotation_frequencies(width: int, device: torch.device) -> Tensor:
    """(width,): 1 / 10000^(2 k / width), each for a pair of neighbours."""
    exponents = torch.arange(0, width, 2, device=device).float() / width
    return (1 / 10_000**exponents).repeat_interleave(2)


def unrotated(count: int, rope: Rope) -> Rope:
    """The rotations with `count` tokens before the others that have no position: they are not rotated."""
    cosines, sines = rope
    shape = (count, cosines.shape[1])
    return torch.cat([cosines.new_ones(shape), cosines]), torch.cat([sines.new_zeros(shape), sines])


def interpolated(positions: Tensor, side: int, height: int, width: int) -> Tensor:
    """The position embedding (1, height width, D) of a grid of patches, from (1, side^2, D) of the trained grid."""
    if (height, width) == (side, side):
        return positions
    trained = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    return F.interpolate(trained, (height, width), mode="bicubic").flatten(2).transpose(1, 2)


def sincos_position_embedding(width: int, side: int) -> Tensor:
    """(1, side^2, width) float32, computed in float64: half the channels for the column, then half for the row."""

    def embed(position: np.ndarray) -> np.ndarray:
        angles = position.reshape(-1, 1) * 10_000 ** -(np.arange(width // 4) / (width / 4))
        return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)

    rows, columns = np.mgrid[:side, :side].astype(np.float64)
    return torch.from_numpy(np.concatenate([embed(columns), embed(rows)], axis=1)).float().unsqueeze(0)
