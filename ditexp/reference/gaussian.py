"""Checks that a mean and a covariance from a file are those of images' features."""

from __future__ import annotations

import numpy as np
import torch

from ditexp.files.reading import unfit
from ditexp.values import Gaussian

# The tolerated error, relative to the scale of the covariance. A covariance summed in float32 over 50,000 images has an
# error of about 1e-6; a single triangle, or a matrix that is not a covariance, has 1e-2 or more.
ROUNDING = 1e-5
FLOAT16_BITS = 11
MAX_FEATURES = 4096  # more than any network in use has; their covariance needs 134 MB
MAX_NUMBER = 1e30  # squares of larger numbers overflow


def check_shapes(
    mean: tuple[np.dtype, tuple[int, ...]],
    covariance: tuple[np.dtype, tuple[int, ...]],
    *,
    names: tuple[str, str],
    where: object,
) -> None:
    """Raise ValueError unless the types and shapes in the file's header are those of a mean and its covariance.

    names: of the two arrays. where: the file, at the start of messages.
    """
    for name, (dtype, _) in zip(names, (mean, covariance)):
        if wrong := wrong_type(dtype):
            raise unfit(f"{where}:", f"{name} is {dtype}, {wrong}", "make the statistics again, in float64")
    (_, mu), (_, sigma) = mean, covariance
    if len(mu) != 1 or not mu[0] or sigma != (mu[0], mu[0]):
        both = f"{names[0]} of shape {mu} and {names[1]} of {sigma} are not a mean (D,) and its covariance (D, D)"
        raise unfit(f"{where}:", both, "get the file again")
    if mu[0] > MAX_FEATURES:
        raise unfit(f"{where}:", f"{names[0]} is of {mu[0]:,} features", f"give statistics of up to {MAX_FEATURES:,}")


def checked(mean: np.ndarray, covariance: np.ndarray, *, names: tuple[str, str], where: object) -> Gaussian:
    """The Gaussian of a mean (D,) and a covariance (D, D) from a file, in float64 and exactly symmetric.

    names: of the two arrays. where: the file, at the start of messages. Raises ValueError for types, shapes and values
    that statistics of images cannot have.
    """
    check_shapes((mean.dtype, mean.shape), (covariance.dtype, covariance.shape), names=names, where=where)
    mu, sigma = mean.astype(np.float64), covariance.astype(np.float64)
    for name, values in zip(names, (mu, sigma)):
        if not np.isfinite(values).all() or abs(values).max() > MAX_NUMBER:
            what = f"holds numbers above {MAX_NUMBER:g}" if np.isfinite(values).all() else "holds NaN or Inf"
            raise unfit(f"{where}:", f"{name} {what}, which statistics of images never do", "get the file again")
    symmetric = (sigma + sigma.T) / 2
    if wrong := no_covariance(sigma, symmetric):
        raise unfit(f"{where}:", f"{names[1]} {wrong}: it is not a covariance of images", "get the file again")
    if has_few_digits(sigma):
        wrong = f"{names[1]} was rounded to float16 or less, too few digits for a Fréchet distance"
        raise unfit(f"{where}:", wrong, "make the statistics again, in float64")
    return Gaussian(torch.from_numpy(mu), torch.from_numpy(symmetric))


def wrong_type(dtype: np.dtype) -> str | None:
    """What is wrong with the type of an array; None if nothing is."""
    if dtype.kind != "f":
        return "which is no floating point type"
    return "which has too few digits for a Fréchet distance" if dtype.itemsize < 4 else None


def has_few_digits(sigma: np.ndarray) -> bool:
    """Whether a matrix that is not diagonal was rounded to float16: all its numbers then fit into the format."""
    if np.count_nonzero(sigma) <= len(sigma):
        return False
    rows = (np.frexp(row)[0] * 2**FLOAT16_BITS for row in sigma)  # the first row of most matrices is enough
    return all((mantissa == np.rint(mantissa)).all() for mantissa in rows)


def no_covariance(sigma: np.ndarray, symmetric: np.ndarray) -> str | None:
    """What shows that a matrix is not a covariance; None if it may be one. symmetric: its symmetric part."""
    variances = sigma.diagonal()
    if variances.min() < -ROUNDING * abs(variances).max():
        return f"has a variance of {variances.min():.3g}"
    difference = np.abs(sigma - symmetric).max() * 2
    if difference > ROUNDING * variances.max():
        return f"is not symmetric, by up to {difference:.3g}"
    # The Cholesky factor of the matrix plus a tolerance exists unless an eigenvalue is below minus the tolerance. It
    # needs a tenth of the time that eigenvalues need.
    matrix = torch.from_numpy(symmetric)
    tolerance = ROUNDING * matrix.norm().item()
    shifted = matrix + tolerance * torch.eye(len(matrix), dtype=torch.float64)
    if torch.linalg.cholesky_ex(shifted).info.item():
        smallest = torch.linalg.eigvalsh(matrix)[0].item()
        if smallest < -tolerance:
            return f"has a negative eigenvalue, {smallest:.3g}"
    return None
