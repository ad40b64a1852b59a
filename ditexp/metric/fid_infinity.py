"""FID extrapolated to infinitely many samples (Chong and Forsyth 2020, arXiv 1911.07023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from ditexp.metric.base import check_counts, check_dimensions, output, whole_number
from ditexp.metric.fid import count_of, frechet_distance, gaussian_of, gaussians
from ditexp.terminal.notices import notice
from ditexp.values import Features

SIZES = 15  # as in the paper, which takes them from 5,000 to 50,000


@dataclass(frozen=True)
class FrechetInfinity:
    """The intercept of a line through FIDs of N/10 to N samples over 1/N, as their bias is linear in 1/N.

    Gives `fid_infinity`, which may come out below 0. The subsets are drawn in an order that `seed` decides, each
    holding those before it, so that all of them cost one pass over the features. The reference is not extrapolated.
    Raises ValueError for fewer than 20 samples, or features that are not finite.
    """

    seed: int = 0

    uses: ClassVar[str] = "pool"
    reference: ClassVar[str] = "statistics"

    def __post_init__(self):
        whole_number("metric.fid_infinity.seed", self.seed, least=0)

    def check(self, *, fake: int, real: int | None) -> None:
        check_counts(20, fake=fake, metric="fid_infinity")
        check_counts(2, real=real, metric="fid_infinity")

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        self.check(fake=fake.count, real=count_of(real, self.uses))
        x, theirs = output(fake, self.uses, metric="fid_infinity"), gaussian_of(real, self.uses, metric="fid_infinity")
        check_dimensions(x.shape[1], len(theirs.mean), metric="fid_infinity")
        if len(x) // 10 <= x.shape[1]:
            notice(
                f"fid_infinity of {len(x)} samples starts from fewer than its {x.shape[1]} features, where FID is not "
                "yet linear in 1/N: add samples"
            )
        sizes = np.linspace(len(x) // 10, len(x), SIZES).astype(int)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        values = [frechet_distance(ours, theirs) for ours in gaussians(x, order, sizes.tolist())]
        _, intercept = np.polyfit(1 / sizes, values, deg=1)
        return {"fid_infinity": float(intercept)}
