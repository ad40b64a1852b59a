from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Generate:
    """Plain sampling: each sample's own noise, integrated under its own condition."""

    def __call__(self, sampler, indices: Sequence[int]) -> tuple[Tensor, Tensor | None]:
        condition = sampler.condition(indices)
        return sampler.integrate(sampler.noise(indices), condition, indices), condition.labels
