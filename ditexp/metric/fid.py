"""Fréchet distance between Gaussians fitted to features (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ditexp.core import Features

BLOCK_SIZE = 1000


@dataclass(frozen=True)
class FrechetDistance:
    """FID when the features are Inception's: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), in float64.

    Covariances have divisor N - 1 and may be singular (N < D). Gives `fid` >= 0. Raises ValueError without a
    reference, or when either set has fewer than two images.
    """

    def check(self, *, fake: int, real: int | None) -> None:
        if real is None:
            raise ValueError(
                "fid needs a reference, but there is none: choose reference=digits, folder, npz or statistics"
            )
        if min(fake, real) < 2:
            raise ValueError(f"fid needs 2 images or more, got {fake} and {real} in the reference: add images")

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        self.check(fake=fake.count, real=real and real.count)
        (mean1, covariance1), (mean2, covariance2) = mean_and_covariance(fake), mean_and_covariance(real)
        if len(mean1) != len(mean2):
            raise ValueError(
                f"fid got features of {len(mean1)} dimensions and a reference of {len(mean2)}: "
                "prepare the reference with the same feature network"
            )
        factor, failed = torch.linalg.cholesky_ex(covariance1)
        if failed or min(fake.count, real.count) <= len(mean1):
            # Exact for singular covariances, where square roots of eigenvalues' rounding errors would add up.
            trace = torch.linalg.svdvals(_root(fake, mean1, covariance1) @ _root(real, mean2, covariance2).T).sum()
        else:
            trace = torch.linalg.eigvalsh(factor.T @ covariance2 @ factor).clamp(min=0).sqrt().sum()
        distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * trace
        return {"fid": max(distance.item(), 0.0)}


def mean_and_covariance(features: Features) -> tuple[Tensor, Tensor]:
    """(D,) and (D, D) float64, divisor N - 1; from the pooled features unless they are known already."""
    if features.mean is not None:
        return features.mean, features.covariance
    pool = features.pool.numpy()
    mean = pool.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((len(mean), len(mean)))
    for start in range(0, len(pool), BLOCK_SIZE):
        block = pool[start : start + BLOCK_SIZE] - mean
        covariance += block.T @ block
    return torch.from_numpy(mean), torch.from_numpy(covariance / (len(pool) - 1))


def _root(features: Features, mean: Tensor, covariance: Tensor) -> Tensor:
    """(R, D) float64 whose product root.T @ root is the covariance, R its rank or more."""
    if features.pool is not None and features.count <= len(mean):
        return (features.pool.double() - mean) / (features.count - 1) ** 0.5
    values, vectors = torch.linalg.eigh(covariance)
    keep = values > values[-1] * len(mean) * torch.finfo(values.dtype).eps
    return (vectors[:, keep] * values[keep].sqrt()).T
