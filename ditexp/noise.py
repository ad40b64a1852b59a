"""Randomness that belongs to a sample: keyed by (seed, index), drawn on the CPU, the same everywhere.

Philox is counter-based (Salmon et al. 2011): the key is (seed, index) and the counter's highest word tells streams
of one sample apart, so that nothing depends on batch size, device, number of workers, or what was drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

NOISE, LABEL, STEP, TASK = 0, 1, 2, 3


def generator(seed: int, index: int, stream: int, step: int = 0) -> np.random.Generator:
    """The generator of sample `index` in the set of `seed` (both in [0, 2^64)) for one purpose, at one step."""
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
