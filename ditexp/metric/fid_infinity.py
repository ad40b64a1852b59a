"""FID extrapolated to infinitely many samples (Chong and Forsyth 2020, arXiv 1911.07023)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ditexp.checks import whole
from ditexp.metric.base import Metric, check_counts, check_dimensions, output
from ditexp.metric.fid import count_of, frechet_distance, gaussian_of, gaussians, with_gaussian
from ditexp.terminal.notices import notice
from ditexp.values import Features

SIZES = 15  # of subsets, as in the paper, whose subsets have 5,000 to 50,000 images


@dataclass(frozen=True)
class FrechetInfinity(Metric):
    """FID_infinity: the intercept of a straight line fitted to FID_n over 1/n, for n from N/10 to N samples.

    The bias of FID is linear in 1/n (equation 4), so the intercept is free of it; it may be below 0. The subsets are
    nested, in a random order that `seed` decides, so one pass over the features gives all of them. The reference is not
    extrapolated. Raises ValueError for fewer than 20 samples, or for features that are not finite.
    """

    seed: int = 0

    uses = "pool"
    reference = "statistics"

    def __post_init__(self) -> None:
        whole("metric.fid_infinity.seed", self.seed, minimum=0)

    def check(self, *, fake: int, real: int | None) -> None:
        check_counts(20, fake=fake, metric="fid_infinity")
        check_counts(2, real=real, metric="fid_infinity")

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        self.check(fake=fake.count, real=count_of(real, self.uses))
        x, theirs = output(fake, self.uses, metric="fid_infinity"), gaussian_of(real, self.uses, metric="fid_infinity")
        check_dimensions(x.shape[1], len(theirs.mean), metric="fid_infinity")
        if len(x) // 10 <= x.shape[1]:
            notice(
                f"fid_infinity of {len(x)} samples starts from subsets of fewer than {x.shape[1]}, the number of "
                "features; there FID is not yet linear in 1/N: add samples"
            )
        sizes = np.linspace(len(x) // 10, len(x), SIZES).astype(int)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        values = [frechet_distance(ours, theirs) for ours in gaussians(x, order.to(x.device), sizes.tolist())]
        _, intercept = np.polyfit(1 / sizes, values, deg=1)
        return {"fid_infinity": float(intercept)}

    def against(self, real: Features | None) -> Callable[[Features], dict[str, float]]:
        known = with_gaussian(real, self.uses, metric="fid_infinity")
        return lambda fake: self(fake, known)
