"""Density and coverage (Naeem et al. 2020, arXiv 2002.09797, equations 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ditexp.metric.base import Metric, check_counts, check_neighbours, output, outputs
from ditexp.metric.manifold import Balls, pairs_in_balls
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
        return self._score(x, Balls(y, self.k))

    def against(self, real: Features | None) -> Callable[[Features], dict[str, float]]:
        balls = Balls(output(real, self.uses, metric="density_coverage"), self.k)
        return lambda fake: self._score(output(fake, self.uses, metric="density_coverage"), balls)

    def _score(self, x: Tensor, real: Balls) -> dict[str, float]:
        points, centres = real.comparable(x), real.points
        found, covered = 0, torch.zeros(len(centres), dtype=torch.bool, device=x.device)
        for (inside, balls), _ in pairs_in_balls(points, centres, centre_radii=real.radii, closed=False):
            found += len(inside)
            covered[balls] = True
        return {"density": found / (self.k * len(points)), "coverage": covered.double().mean().item()}
