"""Kernel Inception Distance (Binkowski et al. 2018, arXiv 1801.01401, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import MOST_SEED, blocks, check_counts, outputs, whole_number
from ditexp.values import Features


@dataclass(frozen=True)
class KernelDistance:
    """The unbiased estimate of the squared maximum mean discrepancy, kernel (x . y / D + 1)^3, in float64.

    subsets: None takes all pairs of images: `kid`, free of order and chance. A number takes so many random subsets
    of `subset_size` images of each set, drawn without replacement by numpy's RandomState(seed), first of the samples
    and then of the reference, as torch-fidelity does: `kid` is their mean, `kid_std` their standard deviation
    (divisor `subsets`). Estimates near 0 may be below it.
    Raises ValueError for fewer images than a subset has, or for features that are not finite.
    """

    subsets: int | None = None
    subset_size: int = 1000
    seed: int = 2020

    uses: ClassVar[str] = "pool"
    reference: ClassVar[str] = "images"

    def __post_init__(self):
        if self.subsets is not None and (self.subsets < 1 or self.subset_size < 2):
            raise ValueError(
                f"metric.kid got subsets={self.subsets} of subset_size={self.subset_size}: choose 1 or more of 2 or "
                "more, or subsets=null for all pairs"
            )

        if self.subsets is not None:
            for name, least in (("subsets", 1), ("subset_size", 2)):
                whole_number(f"metric.kid.{name}", getattr(self, name), least=least)
            whole_number("metric.kid.seed", self.seed, least=0, most=MOST_SEED)

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
    """Unbiased MMD^2 of (N, D) and (M, D) features: mean kernels within each set, less twice that between them."""
    return _mean_within(x) + _mean_within(y) - 2 * _mean_between(x, y)


def _mean_within(x: Tensor) -> float:
    """Over pairs of different images."""
    total = 0.0
    for rows in blocks(len(x)):
        kernel = _kernel(x[rows], x[rows])
        total += (kernel.sum() - kernel.trace()).item()
    for rows, columns in combinations(blocks(len(x)), 2):
        total += 2 * _kernel(x[rows], x[columns]).sum().item()
    return total / (len(x) * (len(x) - 1))


def _mean_between(x: Tensor, y: Tensor) -> float:
    pairs = product(blocks(len(x)), blocks(len(y)))
    return sum(_kernel(x[rows], y[columns]).sum().item() for rows, columns in pairs) / (len(x) * len(y))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x.double() @ y.double().T).div_(x.shape[1]).add_(1).pow_(3)
