"""Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ditexp.metric.base import Metric, check_counts, check_neighbours, outputs
from ditexp.metric.manifold import pairs_in_balls, points_of, squared_radii
from ditexp.values import Features


@dataclass(frozen=True)
class DensityCoverage(Metric):
    """How densely samples lie around reference images, and how many reference images have a sample nearby.

    With samples x_j (j = 1..M), reference images y_i (i = 1..N) and balls B(y_i) that reach the k-th nearest other y:

        density  = sum_j sum_i 1[x_j in B(y_i)] / (k M)        (equation 3)
        coverage = sum_i 1[some x_j in B(y_i)] / N             (equation 4)

    The balls are open (<), as in the authors' package prdc. Results are exactly those of distances in float64. Raises
    ValueError with no samples, with k reference images or fewer, or for features that are not finite.
    """

    k: int = 5

    uses = "pool"
    reference = "images"

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
