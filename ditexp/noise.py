"""Randomness that belongs to a sample: keyed by (seed, index), drawn on the CPU, the same everywhere.

Philox is counter-based (Salmon et al. 2011). The key is (seed, index), and the highest word of the counter separates
the streams of one sample. So nothing depends on batch size, device, number of workers, or what was drawn before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NOISE, LABEL, STEP, TASK, TURN = 0, 1, 2, 3, 4

# Two directions within this angle of each other, or of being opposite, are so to the rounding of float64. Radians.
ALIGNED = 1e-8


def generator(seed: int, index: int, stream: int, step: int = 0) -> np.random.Generator:
    """The generator of sample `index` in the set of `seed`, for one purpose and one step.

    seed and index are in [0, 2^63): numpy turns larger numbers into floats.
    """
    return np.random.Generator(np.random.Philox(key=[seed, index], counter=[0, 0, step, stream]))


# Of all samples, or one for each.
Seed = int | Sequence[int]


def noise(seed: Seed, indices: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Standard normal x at t = 0 of the given samples: (len(indices), *shape) float32 on the CPU."""
    return _standard_normal(seed, indices, shape, NOISE)


def step_noise(seed: Seed, indices: Sequence[int], shape: Sequence[int], step: int) -> Tensor:
    """The noise that an SDE solver adds to the given samples in a step, counted from 0. Shape and type as `noise`."""
    return _standard_normal(seed, indices, shape, STEP, step)


def task_noise(seed: Seed, indices: Sequence[int], shape: Sequence[int], number: int) -> Tensor:
    """More noise for a task, independent for each number. Shape and type as `noise`."""
    return _standard_normal(seed, indices, shape, TASK, number)


def _standard_normal(seed: Seed, indices: Sequence[int], shape: Sequence[int], stream: int, step: int = 0) -> Tensor:
    """The first draws of each sample's `generator`: one is set to all their states, which costs a fraction."""
    seeds = itertools.repeat(seed) if isinstance(seed, int) else seed
    bits = np.random.Philox(key=[0, 0], counter=[0, 0, step, stream])
    draws, state, of_all = np.random.Generator(bits), bits.state, np.empty((len(indices), *shape), np.float32)
    for of_one, of_seed, index in zip(of_all, seeds, indices):
        state["state"]["key"][:] = of_seed, index
        bits.state = state
        draws.standard_normal(dtype=np.float32, out=of_one)
    return torch.from_numpy(of_all)


def slerp(a: Tensor, b: Tensor, fraction: Tensor) -> Tensor:
    """Spherical interpolation between noises a and b (B, ...), each one whole vector, at fraction (B,) in [0, 1].

    It runs from a at 0 to b at 1, bit for bit, on the great circle between their directions (Shoemake 1985); the length
    changes linearly from |a| to |b|. So a point between two noises is as long as noise is, while
    (1 - fraction) a + fraction b is up to 29 % shorter (White 2016, arXiv 1609.04468).

    The result is that straight line if the directions agree, or if an end is zero and has no direction. If they are
    opposite, every great circle through a leads to b; the one through a fixed direction is taken, drawn once from a
    normal distribution. (In one dimension there is none, and the path leads through 0.) Computed in float64; returns
    (B, ...) in a's dtype.
    """
    first, second = a.flatten(1).double(), b.flatten(1).double()
    lengths = [end.norm(dim=1, keepdim=True) for end in (first, second)]
    start, end = unit(first), unit(second)
    cosine = dot(start, end)
    side = end - cosine * start
    # atan2, since acos is inaccurate near 0 and pi. And in plain floats, since the rounding of torch's functions
    # depends on an element's position in the tensor.
    angles = [math.atan2(*pair) for pair in zip(side.norm(dim=1).tolist(), cosine.flatten().tolist())]
    angle = start.new_tensor(angles)[:, None]
    if max(angles) > math.pi - ALIGNED:
        turn = torch.from_numpy(generator(0, 0, TURN).standard_normal(start.shape[1])).to(start)
        side = torch.where(angle > math.pi - ALIGNED, turn, side)
    side = unit(side)
    side = unit(side - dot(side, start) * start)  # again: a short rest is mostly rounding, and not yet orthogonal
    turned = [part * angle for part, angle in zip(fraction.tolist(), angles)]
    cosines, sines = (start.new_tensor(list(map(function, turned)))[:, None] for function in (math.cos, math.sin))
    circle = cosines * start + sines * side
    part = fraction.double()[:, None]
    curved = ((1 - part) * lengths[0] + part * lengths[1]) * circle
    straight = first + part * (second - first)
    between = torch.where((angle > ALIGNED) & (lengths[0] > 0), curved, straight)
    return torch.where(part == 0, first, torch.where(part == 1, second, between)).view_as(a).to(a.dtype)


def unit(vectors: Tensor) -> Tensor:
    """(B, D) float64, each divided by its length; 0 stays 0."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp(min=torch.finfo(vectors.dtype).tiny)


def dot(a: Tensor, b: Tensor) -> Tensor:
    """The scalar product of each pair of rows: (B, D) -> (B, 1)."""
    return (a * b).sum(1, keepdim=True)
