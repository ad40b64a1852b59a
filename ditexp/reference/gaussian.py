"""Whether a mean and a covariance are what images can have."""

from __future__ import annotations

import numpy as np
import torch

from ditexp.files.reading import unfit
from ditexp.values import Gaussian

# In shares of the covariance's scale. Covariances that were summed up in float32 over 50,000 images are off by some
# 1e-6 of it; a triangle alone, or other numbers than a covariance's, by 1e-2 and more.
ROUNDING = 1e-5
FLOAT16_BITS = 11
FEATURES = 4096  # of any network that is in use; their covariance takes 134 MB
LARGEST = 1e30  # of a number: squares of larger ones overflow


def check_shapes(
    mean: tuple[np.dtype, tuple[int, ...]],
    covariance: tuple[np.dtype, tuple[int, ...]],
    *,
    names: tuple[str, str],
    where: object,
) -> None:
    """Raise ValueError unless types and shapes, as the file's header tells them, are of a mean and its covariance."""
    for name, (dtype, _) in zip(names, (mean, covariance)):
        if wrong := wrong_type(dtype):
            raise unfit(f"{where}:", f"{name} is {dtype}, {wrong}", "make the statistics again, in float64")
    (_, mu), (_, sigma) = mean, covariance
    if len(mu) != 1 or not mu[0] or sigma != (mu[0], mu[0]):
        both = f"{names[0]} of shape {mu} and {names[1]} of {sigma} are no mean (D,) and covariance (D, D)"
        raise unfit(f"{where}:", both, "get the file again")
    if mu[0] > FEATURES:
        raise unfit(f"{where}:", f"{names[0]} is of {mu[0]:,} features", f"give statistics of up to {FEATURES:,}")


def checked(mean: np.ndarray, covariance: np.ndarray, *, names: tuple[str, str], where: object) -> Gaussian:
    """The Gaussian of a mean (D,) and a covariance (D, D) from a file, as float64 and exactly symmetric.

    Raises ValueError, which begins with `where` and the names, for types, shapes and values that no images' have.
    """
    check_shapes((mean.dtype, mean.shape), (covariance.dtype, covariance.shape), names=names, where=where)
    mu, sigma = mean.astype(np.float64), covariance.astype(np.float64)
    for name, values in zip(names, (mu, sigma)):
        if not np.isfinite(values).all() or abs(values).max() > LARGEST:
            what = f"holds numbers above {LARGEST:g}" if np.isfinite(values).all() else "holds NaN or Inf"
            raise unfit(f"{where}:", f"{name} {what}, as no images' statistics", "get the file again")
    symmetric = (sigma + sigma.T) / 2
    if wrong := no_covariance(sigma, symmetric):
        raise unfit(f"{where}:", f"{names[1]} {wrong}: no images have such a covariance", "get the file again")
    if has_few_digits(sigma):
        wrong = f"{names[1]} was rounded to float16 or less, too few digits for a Fréchet distance"
        raise unfit(f"{where}:", wrong, "make the statistics again, in float64")
    return Gaussian(torch.from_numpy(mu), torch.from_numpy(symmetric))


def wrong_type(dtype: np.dtype) -> str | None:
    if dtype.kind != "f":
        return "no floating point numbers"
    return "which has too few digits for a Fréchet distance" if dtype.itemsize < 4 else None


def has_few_digits(sigma: np.ndarray) -> bool:
    """Whether all numbers of a matrix that is not diagonal would fit into float16, and so were rounded to it once."""
    if np.count_nonzero(sigma) <= len(sigma):
        return False
    rows = (np.frexp(row)[0] * 2**FLOAT16_BITS for row in sigma)  # of most matrices the first row shows it
    return all((mantissa == np.rint(mantissa)).all() for mantissa in rows)


def no_covariance(sigma: np.ndarray, symmetric: np.ndarray) -> str | None:
    """What shows that a matrix is no covariance. symmetric: its symmetric part."""
    variances = sigma.diagonal()
    if variances.min() < -ROUNDING * abs(variances).max():
        return f"has a variance of {variances.min():.3g}"
    difference = np.abs(sigma - symmetric).max() * 2
    if difference > ROUNDING * variances.max():
        return f"is not symmetric, by up to {difference:.3g}"
    # A factor of the matrix plus a little exists unless an eigenvalue is more negative than that; a tenth of the time
    # of finding eigenvalues.
    matrix = torch.from_numpy(symmetric)
    tolerance = ROUNDING * matrix.norm().item()
    shifted = matrix + tolerance * torch.eye(len(matrix), dtype=torch.float64)
    if (
        torch.linalg.cholesky_ex(shifted).info.item()
        and (least := torch.linalg.eigvalsh(matrix)[0].item()) < -tolerance
    ):
        return f"has a negative eigenvalue, {least:.3g}"
    return None
