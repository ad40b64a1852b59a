"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2)."""

from __future__ import annotations

from dataclasses import dataclass

from ditexp.metric.base import Metric, check_neighbours, outputs
from ditexp.metric.manifold import are_copies, pairs_in_balls, points_of, squared_radii
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
        fakes, reals = points_of(x, y)
        fake_radii, real_radii = squared_radii(fakes, self.k), squared_radii(reals, self.k)
        precise, recalled = are_copies(x, y[real_radii == 0]), are_copies(y, x[fake_radii == 0])
        found = pairs_in_balls(fakes, reals, centre_radii=real_radii, point_radii=fake_radii, closed=True)
        for (inside, _), (_, covered) in found:
            precise[inside], recalled[covered] = True, True
        return {"precision": precise.double().mean().item(), "recall": recalled.double().mean().item()}
