from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Generate:
    """Plain sampling: each sample's own noise, integrated under its own condition."""

    def __call__(self, sampler, indices: Sequence[int]) -> Tensor:
        return sampler.integrate(sampler.noise(indices), sampler.condition(indices), indices)
