"""Kernel Inception Distance (Binkowski et al. 2018, arXiv 1801.01401, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from ditexp.checks import whole
from ditexp.metric.base import MAX_SEED, Metric, blocks, check_counts, outputs
from ditexp.values import Features


@dataclass(frozen=True)
class KernelDistance(Metric):
    """The unbiased estimate of the squared maximum mean discrepancy with the kernel k(x, y) = (x . y / D + 1)^3:

        MMD^2 = mean over i != j of k(x_i, x_j) + mean over i != j of k(y_i, y_j) - 2 mean over i, j of k(x_i, y_j)

    (equation 4), in float64; it may be below 0.

    subsets: None uses all pairs of images and gives `kid`, which does not depend on order or chance. A number draws
    this many random subsets of `subset_size` images from each set, as torch-fidelity does: without replacement, by
    numpy's RandomState(seed), first from the samples and then from the reference. `kid` is then the mean of their
    estimates, and `kid_std` the standard deviation (divisor `subsets`).

    Raises ValueError for fewer images than a subset has, or for features that are not finite.
    """

    subsets: int | None = None
    subset_size: int = 1000
    seed: int = 2020

    uses = "pool"
    reference = "images"

    def __post_init__(self) -> None:
        if self.subsets is not None:
            whole("metric.kid.subsets", self.subsets, minimum=1)
            whole("metric.kid.subset_size", self.subset_size, minimum=2)
            whole("metric.kid.seed", self.seed, minimum=0, maximum=MAX_SEED)

    def check(self, *, fake: int, real: int | None) -> None:
        needed = 2 if self.subsets is None else self.subset_size
        remedy = "add images" if self.subsets is None else "add images or lower metric.kid.subset_size"
        check_counts(needed, fake=fake, real=real, metric="kid", remedy=remedy)

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        x, y = outputs(fake, real, self.uses, metric="kid")
        self.check(fake=len(x), real=len(y))
        if self.subsets is None:
            return {"kid": squared_discrepancy(x, y)}
        draw = np.random.RandomState(self.seed)
        values = []
        for _ in range(self.subsets):
            rows = [draw.choice(len(z), self.subset_size, replace=False) for z in (x, y)]
            values.append(squared_discrepancy(*(z[torch.from_numpy(r).to(z.device)] for z, r in zip((x, y), rows))))
        return {"kid": float(np.mean(values)), "kid_std": float(np.std(values))}


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD^2 of (N, D) and (M, D) features."""
    return _mean_within(x) + _mean_within(y) - 2 * _mean_between(x, y)


def _mean_within(x: Tensor) -> float:
    """The mean kernel over pairs of different images of one set."""
    total = x.new_zeros((), dtype=torch.float64)  # read once, at the end
    for rows in blocks(len(x)):
        kernel = _kernel(x[rows], x[rows])
        total += kernel.sum() - kernel.trace()
    for rows, columns in combinations(blocks(len(x)), 2):
        total += 2 * _kernel(x[rows], x[columns]).sum()
    return total.item() / (len(x) * (len(x) - 1))


def _mean_between(x: Tensor, y: Tensor) -> float:
    """The mean kernel over all pairs of an image of each set."""
    pairs = product(blocks(len(x)), blocks(len(y)))
    total = x.new_zeros((), dtype=torch.float64)
    for rows, columns in pairs:
        total += _kernel(x[rows], y[columns]).sum()
    return total.item() / (len(x) * len(y))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() @ y.double().T).div_(x.shape[1]).add_(1).pow_(3)
