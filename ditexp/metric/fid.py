"""Fréchet distance between Gaussians fitted to features (Heusel et al. 2017, arXiv 1706.08500)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import BLOCK_SIZE, blocks, check_counts, check_dimensions, output
from ditexp.terminal.notices import notice
from ditexp.values import Features, Gaussian

# A covariance with smaller pivots, in shares of its largest variance, counts as nearly singular: square roots of
# eigenvalues would then show these eigenvalues' rounding errors.
MIN_PIVOT = 1e-6


@dataclass(frozen=True)
class FrechetDistance:
    """FID when the features are Inception's: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), in float64.

    uses: pool for FID, spatial for sFID (Nash et al. 2021, arXiv 2103.03841). name: the result's key; its value is
    >= 0. Statistics that are known already are taken as they are. With fewer images than features covariances are
    singular; the distance is exact all the same, but biased upward, which is said once.

    Raises ValueError when a set has fewer than two images, features that are not finite, or other dimensions.
    """

    uses: str = "pool"
    name: str = "fid"

    reference: ClassVar[str] = "statistics"

    def check(self, *, fake: int, real: int | None) -> None:
        check_counts(2, fake=fake, real=real, metric=self.name)

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        self.check(fake=count_of(fake, self.uses), real=count_of(real, self.uses))
        ours, theirs = (gaussian_of(features, self.uses, metric=self.name) for features in (fake, real))
        dimensions = len(ours.mean)
        check_dimensions(dimensions, len(theirs.mean), metric=self.name)
        few = [gaussian.count for gaussian in (ours, theirs) if gaussian.count and gaussian.count <= dimensions]
        if few:
            notice(
                f"{self.name} of {min(few)} images with {dimensions} features is biased upward, the more so the fewer "
                "the images: compare it only at equal counts, or add images"
            )
        return {self.name: frechet_distance(ours, theirs)}


def count_of(features: Features | None, uses: str) -> int | None:
    """How many images there are to fit a Gaussian to; None where it is known already, or there is nothing."""
    return None if features is None or uses in features.gaussians else features.count


def gaussian_of(features: Features | None, uses: str, *, metric: str) -> Gaussian:
    """The Gaussian of an output: as it is known already, or fitted to the features."""
    if features is not None and uses in features.gaussians:
        gaussian = features.gaussians[uses]
    else:
        gaussian = mean_and_covariance(output(features, uses, metric=metric))
    if not (gaussian.covariance.sum() + gaussian.mean.sum()).isfinite():
        raise ValueError(f"{metric} got a mean or covariance that is NaN or infinite: make the statistics again")
    return gaussian


def mean_and_covariance(x: Tensor) -> Gaussian:
    """The Gaussian fitted to features. x: (N, D) float32, N >= 2; it stays where x is."""
    return next(gaussians(x, None, [len(x)]))


def gaussians(x: Tensor, rows: Tensor | None, counts: Sequence[int]) -> Iterator[Gaussian]:
    """The Gaussians fitted to x[rows[:count]], one after the other, in one pass.

    x: (N, D) float32. rows: int64, in any order; None: all as they are. counts: increasing, from 2.

    Sums are float64 and shifted by the mean of the first block, so that large means cost few digits: since that block
    is among the data, its mean is at most sqrt(count / block) standard deviations from theirs.
    """
    size = 2 * BLOCK_SIZE  # the larger a block, the faster its products

    def block_at(start: int, end: int) -> Tensor:
        return x[start:end] if rows is None else x[rows[start:end].to(x.device)]

    room = x.new_empty(min(size, counts[-1]), x.shape[1], dtype=torch.float64)
    shift = room.copy_(block_at(0, len(room))).mean(dim=0)
    total, products = torch.zeros_like(shift), shift.new_zeros(len(shift), len(shift))
    done = 0
    for count in counts:
        for start in range(done, count, size):
            block = block_at(start, min(start + size, count))
            _add_sums(total, products, block, shift, room[: len(block)])
        done = count
        offset = total / count
        covariance = products if count == counts[-1] else products.clone()  # each is as large as a block of images
        _mirror(covariance.addr_(offset, offset, alpha=-count).div_(count - 1))
        yield Gaussian(shift + offset, covariance, count)


def _mirror(square: Tensor) -> None:
    """Make the lower triangle what the upper one is, in place."""
    for rows in blocks(len(square)):
        tile = square[rows, rows]
        tile.triu_().add_(tile.triu(1).T)
        square[rows.stop :, rows] = square[rows, rows.stop :].T


def _add_sums(total: Tensor, products: Tensor, block: Tensor, shift: Tensor, room: Tensor) -> None:
    """Add the sums of a block less the shift, and its products, of which only the upper triangle counts."""
    if block.device.type == "cpu":
        from scipy.linalg.blas import dsyrk

        # By numpy, since torch's threads would still be awake, and in the way, when BLAS's begin.
        centred = np.subtract(block.numpy(), shift.numpy(), out=room.numpy())
        total += torch.from_numpy(centred.sum(axis=0))
        # Half the work of a product. What is the upper triangle here is the lower one of BLAS's column-major view.
        dsyrk(1.0, centred.T, beta=1.0, c=products.numpy().T, overwrite_c=True, lower=True)
    else:
        centred = torch.sub(block, shift, out=room)
        total += centred.sum(dim=0)
        products.addmm_(centred.T, centred)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), at least 0, wherever the Gaussians lie computed on the CPU.

    (A GPU gains nothing on one eigenproblem of this size.)
    """
    means, covariances = zip(*((g.mean.cpu().numpy(), g.covariance.cpu().numpy()) for g in (first, second)))
    offset = np.square(means[0] - means[1]).sum()
    spread = sum(covariance.trace() for covariance in covariances)
    return max(float(offset + spread - 2 * _trace_of_root(*covariances)), 0.0)


def _trace_of_root(first: np.ndarray, second: np.ndarray) -> float:
    """tr (S1 S2)^1/2: the sum of the square roots of the eigenvalues of S1 S2, all of which are real and >= 0."""
    from scipy.linalg import eigvalsh, lapack, svdvals

    factors = [_well_conditioned_factor(covariance) for covariance in (first, second)]
    if all(factor is not None for factor in factors):
        similar, _ = lapack.dsygst(second, factors[0], itype=2, lower=True)  # factor.T @ second @ factor
        return np.sqrt(eigvalsh(similar, lower=True, overwrite_a=True).clip(min=0)).sum()
    roots = [_root(s) if factor is None else factor.T for s, factor in zip((first, second), factors)]
    small, large = sorted(roots, key=len)
    if not len(small):  # a set without any spread
        return 0.0
    product = small @ large.T
    eigenvalues = eigvalsh(product @ product.T, overwrite_a=True)
    if eigenvalues[0] > MIN_PIVOT * eigenvalues[-1]:
        return np.sqrt(eigenvalues).sum()
    return svdvals(product, overwrite_a=True).sum()  # no square roots are taken of its rounding errors


def _well_conditioned_factor(covariance: np.ndarray) -> np.ndarray | None:
    """(D, D) lower Cholesky factor, or None where the covariance is singular or nearly so.

    Of a singular matrix rounding errors may well leave a factor, whose pivots betray it.
    """
    from scipy.linalg.lapack import dpotrf

    factor, failed = dpotrf(covariance, lower=True)
    if failed or factor.diagonal().min() ** 2 < MIN_PIVOT * covariance.diagonal().max():
        return None
    return factor


def _root(covariance: np.ndarray) -> np.ndarray:
    """(R, D) whose product root.T @ root is the covariance, R its rank, by Cholesky factorisation with pivots.

    What is left when all remaining variances are within rounding errors (LAPACK's limit: D x 1e-16 of the largest)
    is taken for 0.
    """
    from scipy.linalg.lapack import dpstrf

    factor, order, rank, _ = dpstrf(covariance, lower=False)
    root = np.empty((rank, len(covariance)))
    root[:, order - 1] = np.triu(factor)[:rank]
    return root
