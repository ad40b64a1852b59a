"""Improved precision and recall (Kynkäänniemi et al. 2019, arXiv 1904.06991, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ditexp.core import Features

BLOCK_ELEMENTS = 4_000_000  # distances held at a time
PAIRS = 1024


@dataclass(frozen=True)
class PrecisionRecall:
    """precision: share of fakes in the reference's manifold; recall: share of the reference in the fakes'.

    A set's manifold is the union of balls around its members, each reaching (<=) its k-th nearest other
    member. Distances are float32 products with error bounds; what these leave open is decided in float64, so
    the result is that of the definition in float64. Raises ValueError without the reference's features, or
    with k images or fewer in either set.
    """

    k: int = 3

    def check(self, *, fake: int, real: int | None) -> None:
        if real is None:
            raise ValueError(
                "precision_recall needs a reference, but there is none: choose reference=digits, folder, npz "
                "or statistics"
            )
        for name, count in {"samples": fake, "reference": real}.items():
            if count <= self.k:
                raise ValueError(
                    f"precision_recall with k={self.k} needs {self.k + 1} images or more, got {count} in the "
                    f"{name}: add images or lower metric.precision_recall.k"
                )

    def __call__(self, fake: Features, real: Features | None) -> dict[str, float]:
        self.check(fake=fake.count, real=real and real.count)
        if real.pool is None:
            raise ValueError(
                "precision_recall needs the features of reference images, not only their statistics: choose "
                "reference=digits, folder, npz, or statistics with a file written by ditexp.reference"
            )
        centre = real.pool.numpy().mean(axis=0, dtype=np.float64)
        fakes, reals = _Points(fake.pool.numpy(), centre), _Points(real.pool.numpy(), centre)
        fake_radii, real_radii = _radii(fakes, self.k), _radii(reals, self.k)
        precise, recalled = np.zeros(fake.count, bool), np.zeros(real.count, bool)
        for rows, low, high in _bounds(fakes, reals):
            precise[rows] = _inside(low, high, real_radii, fakes.features[rows], reals.features)
            recalled |= _inside(low.T, high.T, fake_radii[rows], reals.features, fakes.features[rows])
        return {"precision": precise.mean().item(), "recall": recalled.mean().item()}


class _Points:
    """(N, D) float32 features; the same moved by a centre, since large means cost products their digits."""

    def __init__(self, features: np.ndarray, centre: np.ndarray) -> None:
        self.features = features
        self.centred = np.empty_like(features)
        np.subtract(features, centre, out=self.centred, casting="same_kind")  # in float64, a little at a time
        self.norms = np.einsum("nd,nd->n", self.centred, self.centred, dtype=np.float64).astype(np.float32)


def _bounds(points: _Points, centres: _Points) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Blocks of rows with lower and upper bounds, (b, N) float32, of the squared distances to all centres.

    The bound is twice the worst case of a float32 product over D terms, whatever its order of summation.
    """
    relative_error = (points.centred.shape[1] + 16) * np.finfo(np.float32).eps
    block_size = max(1, min(256, BLOCK_ELEMENTS // len(centres.norms)))
    for start in range(0, len(points.norms), block_size):
        rows = slice(start, start + block_size)
        norms = points.norms[rows, None] + centres.norms
        squared = points.centred[rows] @ centres.centred.T
        squared *= -2
        squared += norms
        norms *= relative_error
        yield rows, squared - norms, np.add(squared, norms, out=squared)


def _radii(points: _Points, k: int) -> np.ndarray:
    """(N,) float64 squared distance of each point to its k-th nearest other point."""
    radii = []
    for rows, low, high in _bounds(points, points):
        inside = np.arange(len(low))
        low[inside, rows.start + inside] = high[inside, rows.start + inside] = np.inf
        kth = np.partition(high, k - 1, axis=1)[:, k - 1 : k]
        row, column = np.nonzero(low <= kth)
        squared = _squared_distances(points.features[rows], points.features, row, column)
        squared = squared[np.lexsort((squared, row))]
        radii.append(squared[np.searchsorted(row, inside) + k - 1])
    return np.concatenate(radii)


def _inside(
    low: np.ndarray, high: np.ndarray, radii: np.ndarray, points: np.ndarray, centres: np.ndarray
) -> np.ndarray:
    """(P,) bool: which points lie in a ball. low, high: (P, C) bounds of squared distances; radii: (C,)."""
    inside = (high <= radii).any(axis=1)
    row, column = np.nonzero((low <= radii) & ~inside[:, None])
    close = _squared_distances(points, centres, row, column) <= radii[column]
    inside[row[close]] = True
    return inside


def _squared_distances(points: np.ndarray, centres: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """(M,) float64, equal to the last bit for equal pairs, so that ties are ties."""
    squared = np.empty(len(row))
    for start in range(0, len(row), PAIRS):
        pairs = slice(start, start + PAIRS)
        difference = points[row[pairs]].astype(np.float64) - centres[column[pairs]]
        squared[pairs] = np.square(difference, out=difference).sum(axis=1)
    return squared
