"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ditexp.metric.base import Metric, check_neighbours, output, outputs
from ditexp.metric.manifold import Balls, Points, are_copies, chosen, pairs_in_balls, squared_radii
from ditexp.metric.parts import Parts
from ditexp.values import Features


@dataclass(frozen=True)
class PrecisionRecall(Metric):
    """precision: fraction of samples on the manifold of the reference. recall: fraction of the reference on theirs.

    The manifold of a set Phi is the union of closed balls around its members: f(x, Phi) = 1 if |x - p| <= |p - NN_k(p)|
    for some p in Phi, where NN_k(p) is the k-th nearest other member (equation 1). precision is the mean of f(x, real)
    over the samples, recall the mean of f(y, fake) over the reference (equation 2).

    Results are exactly those of distances in float64. Raises ValueError with k images or fewer in either set, or for
    features that are not finite.
    """

    k: int = 3

    uses = "pool"
    reference = "images"

    def check(self, *, fake: int, real: int | None) -> None:
        check_neighbours(self.k, fake=fake, real=real, metric="precision_recall")

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        x, y = outputs(fake, real, self.uses, metric="precision_recall")
        self.check(fake=len(x), real=len(y))
        return self._score(x, Balls(y, self.k))

    def against(self, real: Features | None) -> Callable[[Features], dict[str, float]]:
        balls = Balls(output(real, self.uses, metric="precision_recall"), self.k)
        return lambda fake: self._score(output(fake, self.uses, metric="precision_recall"), balls)

    def of_parts(self, fake: Features, real: Features | None) -> Callable[[Tensor, Features], dict[str, float]]:
        """Whether a sample lies on the reference's manifold does not depend on the part that it is in."""
        x, y = outputs(fake, real, self.uses, metric="precision_recall")
        balls = Balls(y, self.k)
        fakes = balls.comparable(x)
        parts, precise = Parts.of(fakes, balls.points, self.k), self._precise(x, fakes, balls)

        def score(rows: Tensor, part: Features) -> dict[str, float]:
            rows = rows.to(x.device)
            recalled = None if parts is None else parts.covered(rows)
            return self._score(x[rows], balls) if recalled is None else self._means(precise[rows], recalled)

        return score

    def _score(self, x: Tensor, real: Balls) -> dict[str, float]:
        fakes, y = real.comparable(x), real.points.features
        radii = squared_radii(fakes, self.k)
        precise, recalled = are_copies(x, y[chosen(real.radii == 0)]), are_copies(y, x[chosen(radii == 0)])
        found = pairs_in_balls(fakes, real.points, centre_radii=real.radii, point_radii=radii, closed=True)
        for (inside, _), (_, covered) in found:
            precise[inside], recalled[covered] = True, True
        return self._means(precise, recalled)

    def _precise(self, x: Tensor, fakes: Points, real: Balls) -> Tensor:
        """Which samples lie on the reference's manifold, (N,) bool."""
        precise = are_copies(x, real.points.features[chosen(real.radii == 0)])
        for (inside, _), _ in pairs_in_balls(fakes, real.points, centre_radii=real.radii, closed=True):
            precise[inside] = True
        return precise

    def _means(self, precise: Tensor, recalled: Tensor) -> dict[str, float]:
        return {"precision": precise.double().mean().item(), "recall": recalled.double().mean().item()}
