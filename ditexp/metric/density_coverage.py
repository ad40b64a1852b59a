"""Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from ditexp.metric.base import check_counts, check_neighbours, outputs
from ditexp.metric.manifold import pairs_in_balls, points_of, squared_radii
from ditexp.values import Features


@dataclass(frozen=True)
class DensityCoverage:
    """density: reference balls that a fake lies in, on average, over k; coverage: share of balls that hold a fake.

    The balls are open (<), as in the authors' package prdc, and reach each reference image's k-th nearest other one.
    The result is exactly that of distances in float64. Raises ValueError with no samples, with k reference images or
    fewer, or for features that are not finite.
    """

    k: int = 5

    uses: ClassVar[str] = "pool"
    reference: ClassVar[str] = "images"

    def check(self, *, fake: int, real: int | None) -> None:
        check_counts(1, fake=fake, metric="density_coverage")
        check_neighbours(self.k, real=real, metric="density_coverage")

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        x, y = outputs(fake, real, self.uses, metric="density_coverage")
        self.check(fake=len(x), real=len(y))
        fakes, reals = points_of(x, y)
        found, covered = 0, torch.zeros(len(reals), dtype=torch.bool, device=y.device)
        for (inside, balls), _ in pairs_in_balls(fakes, reals, centre_radii=squared_radii(reals, self.k), closed=False):
            found += len(inside)
            covered[balls] = True
        return {"density": found / (self.k * len(fakes)), "coverage": covered.double().mean().item()}
