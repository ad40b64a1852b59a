"""Normal noise that is drawn by name, the same for an original sampler and for ditexp's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tests.golden.weights import uniform


def normal(name: str, shape: Sequence[int]) -> Tensor:
    """Standard normal float32 noise, by the transform of Box and Muller (1958)."""
    count = math.prod(shape)
    radius = np.sqrt(-2 * np.log1p(-uniform(f"{name}, radius", count)))
    values = radius * np.cos(2 * np.pi * uniform(f"{name}, angle", count))
    return torch.from_numpy(values.astype(np.float32)).reshape(tuple(shape))


class Feed:
    """Stands for torch.randn and torch.randn_like: the noise of step 0, 1, ... of a case.

    count: the samples. A batch with guidance's second half has other noise there, which no sample should depend on.
    """

    def __init__(self, case: str, count: int) -> None:
        self.case, self.count, self.calls = case, count, 0

    def __call__(self, like: Tensor | Sequence[int]) -> Tensor:
        shape, dtype = (like.shape, like.dtype) if isinstance(like, Tensor) else (tuple(like), torch.float32)
        noise = normal(step_name(self.case, self.calls), (self.count, *shape[1:]))
        self.calls += 1
        return torch.cat([noise, noise.flip(0)])[: shape[0]].to(dtype)


def step_name(case: str, step: int) -> str:
    return f"{case}, step {step}"
