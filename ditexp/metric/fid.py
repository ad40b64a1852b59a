"""The Fréchet distance between Gaussians fitted to features (Heusel et al. 2017, arXiv 1706.08500, equation 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import BLOCK_SIZE, Metric, blocks, check_counts, check_dimensions, output
from ditexp.terminal.notices import notice
from ditexp.values import Features, Gaussian

# A covariance whose smallest pivot, relative to its largest variance, is below this counts as nearly singular: square
# roots would then amplify the rounding errors of small eigenvalues.
MIN_PIVOT = 1e-6


@dataclass(frozen=True)
class FrechetDistance(Metric):
    """d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), at least 0, in float64. FID if the features are Inception's.

    uses: pool for FID, spatial for sFID (Nash et al. 2021, arXiv 2103.03841). name: the key of the score. Known
    statistics are used as they are. With fewer images than features the covariances are singular; the distance is
    still exact but biased upward, which a notice says.

    Raises ValueError if a set has fewer than two images, if features are not finite, or if the dimensions differ.
    """

    uses: str = "pool"
    name: str = "fid"

    reference = "statistics"

    def check(self, *, fake: int, real: int | None) -> None:
        check_counts(2, fake=fake, real=real, metric=self.name)

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        check_counts(2, fake=count_of(fake, self.uses), real=count_of(real, self.uses), metric=self.name)
        ours, theirs = (gaussian_of(features, self.uses, metric=self.name) for features in (fake, real))
        dimensions = len(ours.mean)
        check_dimensions(dimensions, len(theirs.mean), metric=self.name)
        few = [gaussian.count for gaussian in (ours, theirs) if gaussian.count and gaussian.count <= dimensions]
        if few:
            notice(
                f"{self.name} of {min(few)} images with {dimensions} features is biased upward, more so with "
                "fewer images: compare it only at equal counts, or add images"
            )
        return {self.name: frechet_distance(ours, theirs)}

    def against(self, real: Features | None) -> Callable[[Features], dict[str, float]]:
        known = with_gaussian(real, self.uses, metric=self.name)
        return lambda fake: self(fake, known)


def count_of(features: Features | None, uses: str) -> int | None:
    """The number of images to fit a Gaussian to; None if the Gaussian is known, or if there are no features."""
    return None if features is None or uses in features.gaussians else features.count


def gaussian_of(features: Features | None, uses: str, *, metric: str) -> Gaussian:
    """The Gaussian of an output: the known one, or else one fitted to the features."""
    if features is not None and uses in features.gaussians:
        gaussian = features.gaussians[uses]
    else:
        gaussian = mean_and_covariance(output(features, uses, metric=metric))
    if not (gaussian.covariance.sum() + gaussian.mean.sum()).isfinite():
        raise ValueError(f"{metric} got a mean or covariance that is NaN or infinite: make the statistics again")
    return gaussian


def with_gaussian(features: Features | None, uses: str, *, metric: str) -> Features | None:
    """The features with the Gaussian of an output, so that it is fitted once."""
    if features is None:
        return None
    known = {uses: gaussian_of(features, uses, metric=metric)}
    return replace(features, gaussians={**features.gaussians, **known})


def mean_and_covariance(x: Tensor) -> Gaussian:
    """The Gaussian fitted to features x (N, D) float32, N >= 2, on the device of x."""
    return next(gaussians(x, None, [len(x)]))


def gaussians(x: Tensor, rows: Tensor | None, counts: Sequence[int]) -> Iterator[Gaussian]:
    """The Gaussian fitted to x[rows[:count]] for each count, all in one pass.

    x: (N, D) float32. rows: int64 on the same device, in any order; None: all in their order. counts: increasing, at
    least 2.

    Sums are float64, of features minus the mean of the first block, so that large means cost few digits: the block is
    part of the data, so its mean is at most sqrt(count / block) standard deviations from theirs.
    """
    size = 2 * BLOCK_SIZE  # products of larger blocks are faster

    def block_at(start: int, end: int) -> Tensor:
        return x[start:end] if rows is None else x[rows[start:end]]

    buffer = x.new_empty(min(size, counts[-1]), x.shape[1], dtype=torch.float64)
    shift = buffer.copy_(block_at(0, len(buffer))).mean(dim=0)
    total, products = torch.zeros_like(shift), shift.new_zeros(len(shift), len(shift))
    done = 0
    for count in counts:
        for start in range(done, count, size):
            block = block_at(start, min(start + size, count))
            _add_sums(total, products, block, shift, buffer[: len(block)])
        done = count
        offset = total / count
        covariance = products if count == counts[-1] else products.clone()  # without a copy of the last one
        _mirror(covariance.addr_(offset, offset, alpha=-count).div_(count - 1))
        yield Gaussian(shift + offset, covariance, count)


def _mirror(square: Tensor) -> None:
    """Copy the upper triangle to the lower one, in place."""
    for rows in blocks(len(square)):
        tile = square[rows, rows]
        tile.triu_().add_(tile.triu(1).T)
        square[rows.stop :, rows] = square[rows, rows.stop :].T


def _add_sums(total: Tensor, products: Tensor, block: Tensor, shift: Tensor, buffer: Tensor) -> None:
    """Add the sum of block - shift to `total`, and its products to the upper triangle of `products`."""
    if block.device.type == "cpu":
        from scipy.linalg import get_blas_funcs

        # By numpy: torch's threads would still be awake, and slow down those of BLAS.
        centred = np.subtract(block.numpy(), shift.numpy(), out=buffer.numpy())
        total += torch.from_numpy(centred.sum(axis=0))
        # Half the work of a full product. The upper triangle here is the lower one of BLAS's column-major view.
        syrk = get_blas_funcs("syrk", dtype=np.float64)
        syrk(1.0, centred.T, beta=1.0, c=products.numpy().T, overwrite_c=True, lower=True)
    else:
        centred = torch.sub(block, shift, out=buffer)
        total += centred.sum(dim=0)
        products.addmm_(centred.T, centred)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), at least 0.

    On CUDA by the same algorithm, except where a covariance is singular or nearly so: torch has no pivoted Cholesky
    factorisation, so a CPU computes that.
    """
    on_cpu = first.covariance.device.type == "cpu"
    root = None if on_cpu else trace_of_root(first.covariance, second.covariance)
    if root is not None:
        offset = (first.mean - second.mean).square().sum()
        spread = first.covariance.trace() + second.covariance.trace()
        return max((offset + spread).item() - 2 * root, 0.0)
    means, covariances = zip(*((g.mean.cpu().numpy(), g.covariance.cpu().numpy()) for g in (first, second)))
    offset = np.square(means[0] - means[1]).sum()
    spread = sum(covariance.trace() for covariance in covariances)
    return max(float(offset + spread - 2 * _trace_of_root(*covariances)), 0.0)


def trace_of_root(first: Tensor, second: Tensor) -> float | None:
    """tr (S1 S2)^1/2 on the device of S1 and S2, by eigenvalues of L^T S2 L with the Cholesky factor L of S1.

    None if one of them is singular or nearly so, as of `_well_conditioned_factor`.
    """
    (factor, failed), (other, other_failed) = (torch.linalg.cholesky_ex(covariance) for covariance in (first, second))
    pivots = torch.stack([each.diagonal().min().square() for each in (factor, other)])
    variances = torch.stack([each.diagonal().max() for each in (first, second)])
    if (failed + other_failed).logical_or((pivots < MIN_PIVOT * variances).any()):
        return None
    return torch.linalg.eigvalsh(factor.T @ second @ factor).clamp(min=0).sqrt().sum().item()


def _trace_of_root(first: np.ndarray, second: np.ndarray) -> float:
    """tr (S1 S2)^1/2: the sum of the square roots of the eigenvalues of S1 S2, which are real and at least 0."""
    from scipy.linalg import eigvalsh, get_lapack_funcs, svdvals

    factors = [_well_conditioned_factor(covariance) for covariance in (first, second)]
    if all(factor is not None for factor in factors):
        sygst = get_lapack_funcs("sygst", dtype=np.float64)
        similar, _ = sygst(second, factors[0], itype=2, lower=True)  # factor.T @ second @ factor
        return np.sqrt(eigvalsh(similar, lower=True, overwrite_a=True).clip(min=0)).sum()
    roots = [_root(s) if factor is None else factor.T for s, factor in zip((first, second), factors)]
    small, large = sorted(roots, key=len)
    if not len(small):  # a set without any spread
        return 0.0
    product = small @ large.T
    eigenvalues = eigvalsh(product @ product.T, overwrite_a=True)
    if eigenvalues[0] > MIN_PIVOT * eigenvalues[-1]:
        return np.sqrt(eigenvalues).sum()
    return svdvals(product, overwrite_a=True).sum()  # free of square roots of rounding errors


def _well_conditioned_factor(covariance: np.ndarray) -> np.ndarray | None:
    """The lower Cholesky factor (D, D); None if the covariance is singular or nearly so.

    Rounding errors may make the factorisation of a singular matrix succeed, but then some pivots are very small.
    """
    from scipy.linalg import get_lapack_funcs

    potrf = get_lapack_funcs("potrf", dtype=np.float64)
    factor, failed = potrf(covariance, lower=True)
    if failed or factor.diagonal().min() ** 2 < MIN_PIVOT * covariance.diagonal().max():
        return None
    return factor


def _root(covariance: np.ndarray) -> np.ndarray:
    """A matrix (R, D) with root.T @ root = covariance, where R is the rank, by pivoted Cholesky factorisation.

    Remaining variances within rounding errors count as 0 (LAPACK's limit: D x 1e-16 of the largest variance).
    """
    from scipy.linalg import get_lapack_funcs

    pstrf = get_lapack_funcs("pstrf", dtype=np.float64)
    factor, order, rank, _ = pstrf(covariance, lower=False)
    root = np.empty((rank, len(covariance)))
    root[:, order - 1] = np.triu(factor)[:rank]
    return root
