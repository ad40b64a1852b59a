"""Randomness that belongs to a sample: keyed by (seed, index), drawn on the CPU, the same everywhere.

Philox is counter-based (Salmon et al. 2011): the key is (seed, index) and the counter's highest word tells streams
of one sample apart, so that nothing depends on batch size, device, number of workers, or what was drawn before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

NOISE, LABEL, STEP, TASK, TURN = 0, 1, 2, 3, 4

# Directions this close to each other, or to being opposite, in radians, are so to float64's rounding.
ALIGNED = 1e-8


def generator(seed: int, index: int, stream: int, step: int = 0) -> np.random.Generator:
    """The generator of sample `index` in the set of `seed` for one purpose, at one step.

    Both in [0, 2^63): numpy makes floats of larger ones.
    """
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, step, stream]))


def noise(seed: int, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal x at t = 0 for the given samples: (len(indices), *shape) float32 on the CPU."""
    return _standard_normal([generator(seed, index, NOISE) for index in indices], shape)


def step_noise(seed: int, indices: Sequence[int], shape: Sequence[int], step: int) -> Tensor:
    """What an SDE solver adds to the given samples in its step of that number, from 0: as `noise`."""
    return _standard_normal([generator(seed, index, STEP, step) for index in indices], shape)


def task_noise(seed: int, indices: Sequence[int], shape: Sequence[int], number: int) -> Tensor:
    """What a task needs besides, several times if need be: as `noise`."""
    return _standard_normal([generator(seed, index, TASK, number) for index in indices], shape)


def _standard_normal(generators: Sequence[np.random.Generator], shape: Sequence[int]) -> Tensor:
    draws = [each.standard_normal(tuple(shape), dtype=np.float32) for each in generators]
    return torch.from_numpy(np.stack(draws))


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation between noises a and b (B, ...), each one whole vector, at share (B,) in [0, 1].

    From a at 0 to b at 1, bit for bit, on the great circle between their directions (Shoemake 1985); lengths go
    linearly from |a| to |b|. So what is between two noises is as long as noise is, while (1 - share) a + share b loses
    up to 29 % of the length (White 2016, arXiv 1609.04468). It is that line where the directions agree, and where an
    end is zero, which has no direction. If they are opposite, every great circle through a leads to b: taken is the one
    through a fixed direction, drawn once from a normal distribution. (In one dimension there is none: it leads through
    0.) Computed in float64; returns (B, ...) in a's dtype.
    """
    first, second = a.flatten(1).double(), b.flatten(1).double()
    lengths = [end.norm(dim=1, keepdim=True) for end in (first, second)]
    start, end = unit(first), unit(second)
    cosine = dot(start, end)
    side = end - cosine * start
    # acos is blind near 0 and pi. And plain floats, because torch's functions round with a number's place in a tensor.
    angles = [math.atan2(*pair) for pair in zip(side.norm(dim=1).tolist(), cosine.flatten().tolist())]
    angle = column(angles, start)
    if max(angles) > math.pi - ALIGNED:
        turn = torch.from_numpy(generator(0, 0, TURN).standard_normal(start.shape[1])).to(start)
        side = torch.where(angle > math.pi - ALIGNED, turn, side)
    side = unit(side)
    side = unit(side - dot(side, start) * start)  # again, since a short rest is mostly rounding, hence not orthogonal
    turned = [part * angle for part, angle in zip(share.tolist(), angles)]
    circle = column(map(math.cos, turned), start) * start + column(map(math.sin, turned), start) * side
    part = share.double()[:, None]
    curved = ((1 - part) * lengths[0] + part * lengths[1]) * circle
    straight = first + part * (second - first)
    between = torch.where((angle > ALIGNED) & (lengths[0] > 0), curved, straight)
    return torch.where(part == 0, first, torch.where(part == 1, second, between)).view_as(a).to(a.dtype)


def unit(vectors: Tensor) -> Tensor:
    """(B, D) float64, each divided by its length; 0 stays 0."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """(B, D) -> (B, 1)."""
    return (a * b).sum(1, keepdim=True)


def column(values: Iterable[float], like: Tensor) -> Tensor:
    return like.new_tensor(list(values))[:, None]
