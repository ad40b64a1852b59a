"""Balls around features that reach the k-th nearest neighbour, and which points lie in them: exact, and fast.

Distances d are represented by p = -d^2 / 2, because one matrix product gives all of them when points get two more
coordinates: p = (x, 1, -|x|^2 / 2) . (y, -|y|^2 / 2, 1). Products in float32 give upper bounds of p; the few pairs that
the bounds do not decide are computed in float64. So the results are those of the definition in float64, whatever the
order of summation within the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import BLOCK_SIZE, blocks
from ditexp.precision import full_float32

PARTS = 64  # rows whose lengths are computed at a time
SPARE = 5  # neighbours kept beyond the k-th, since rounding errors may change their order
VALUES, VALUES_ON_GPU = 2**17, 2**24  # computed at a time in float64: few enough for a cache, and for a GPU's memory
Pairs = tuple[Tensor, Tensor]  # (M,) int64 indices of points, and (M,) of centres


class Points:
    """Features (N, D) float32, with operands and margins for bounds of p.

    centre: (D,) float32, the same for sets that are compared. Raises ValueError if squares overflow float32.

    operands: (N, D + 2) float32, the right-hand operands (y, m - |y|^2 / 2, 1). margins: (N,) float64, the m. The sum
    of two points' margins is larger than the worst error of their p: with u = 2^-24, (D + 2) u (|x|^2 + |y|^2) for the
    product in any order, at most 6 u for rounding x, |x|^2 and the compared value, and D + 2 underflows.
    """

    def __init__(self, features: Tensor, centre: Tensor) -> None:
        size, limits = features.shape[1], torch.finfo(torch.float32)
        self.features = features
        self.operands = features.new_empty(len(features), size + 2)
        self.margins = features.new_empty(len(features), dtype=torch.float64)
        for rows in blocks(len(features)):
            centred = torch.sub(features[rows], centre, out=self.operands[rows, :size])
            parts = centred.split(PARTS)
            squares = torch.cat([torch.linalg.vector_norm(part, dim=1, dtype=torch.float64) for part in parts]).square()
            self.margins[rows] = (size + 16) * (limits.eps / 2 * squares + limits.tiny)
            self.operands[rows, size], self.operands[rows, size + 1] = self.margins[rows] - squares / 2, 1.0
        if not self.operands[:, size].isfinite().all():
            raise ValueError(
                "features so large that their squares overflow float32 cannot be compared: scale them down"
            )

    def __len__(self) -> int:
        return len(self.features)

    def left(self, rows: slice | Tensor) -> Tensor:
        """The left-hand operands (x, 1, m - |x|^2 / 2) of some points."""
        right = self.operands[rows]
        return torch.cat([right[:, :-2], right[:, -1:], right[:, -2:-1]], dim=1)

    def buffer(self) -> Tensor:
        """Memory for the bounds between two blocks, allocated once because allocating it for each pair is slow."""
        return self.operands.new_empty(BLOCK_SIZE**2)


class Balls:
    """The balls around features (N, D) float32 that reach the k-th nearest other feature, N > k.

    points: the features. radii: (N,) float64, squared.
    """

    def __init__(self, features: Tensor, k: int) -> None:
        # Any centre is correct. A near one makes the bounds tight, and the median ignores outliers.
        self.centre = features[:256].median(dim=0).values
        self.points = Points(features, self.centre)
        self.radii = squared_radii(self.points, k)

    def comparable(self, features: Tensor) -> Points:
        """Other features, as points to compare with these."""
        return Points(features, self.centre)


def squared_radii(points: Points, k: int) -> Tensor:
    """(N,) float64 squared distance of each point to its k-th nearest other point; N > k."""
    nearest = nearest_others(points, k + SPARE)
    upper = nearest.values.double()
    lower = upper - 2 * (points.margins[:, None] + points.margins[nearest.columns])
    kth_lower, kth_upper = lower.topk(k).values[:, -1:], upper[:, k - 1 : k]
    closer = lower > kth_upper
    row, place = ((upper >= kth_lower) & ~closer).nonzero().unbind(dim=1)
    squared = upper.new_full(upper.shape, inf).masked_fill_(closer, -inf)
    squared[row, place] = squared_distances(points, points, row, nearest.columns[row, place])
    radii = squared.kthvalue(k, dim=1).values
    # So many neighbours are as near as the k-th that some may have been dropped. Distances of 0 stay right.
    crowded = (upper[:, -1] >= kth_lower[:, 0]) & (radii > 0)
    if len(left := chosen(crowded)):
        for rows in left.split(BLOCK_SIZE):
            radii[rows] = _crowded_radii(points, rows, radii[rows], k)
    return radii


def pairs_in_balls(
    points: Points, centres: Points, *, centre_radii: Tensor, point_radii: Tensor | None = None, closed: bool
) -> Iterator[tuple[Pairs, Pairs]]:
    """Which points lie in balls around centres and, from the same products, which centres lie in balls around points.

    centre_radii (C,) and point_radii (P,): float64, squared. closed: whether balls include their surface.
    Each item has the next pairs whose point is in the centre's ball, and the next pairs whose centre is in the point's
    ball (none without point_radii). Balls of radius 0 are left out: see `are_copies`.
    """
    if point_radii is None:
        point_radii = centre_radii.new_zeros(len(points))
    # The smallest p of a pair inside the ball.
    by_centre, by_point = (torch.where(radii > 0, -radii / 2, inf) for radii in (centre_radii, point_radii))
    buffer = points.buffer()
    for rows in blocks(len(points)):
        left = points.left(rows)
        for columns in blocks(len(centres)):
            tile = upper_bounds(left, centres.operands[columns], buffer)
            row, column = reaching(tile, by_point[rows], by_centre[columns])
            upper = tile[row, column].double()
            row, column = row + rows.start, column + columns.start
            lower = upper - 2 * (points.margins[row] + centres.margins[column])
            needed = torch.stack([by_centre[column], by_point[row]])
            inside = lower > needed
            unsure = ((upper >= needed) & ~inside).any(dim=0).nonzero().squeeze(1)
            exact = -squared_distances(points, centres, row[unsure], column[unsure]) / 2
            inside[:, unsure] = exact >= needed[:, unsure] if closed else exact > needed[:, unsure]
            in_centres, in_points = ((row[pairs], column[pairs]) for pairs in map(chosen, inside))
            yield in_centres, in_points


def chosen(mask: Tensor) -> Tensor:
    """The int64 indices of a mask (N,)."""
    return mask.nonzero().squeeze(1)


def are_copies(points: Tensor, originals: Tensor) -> Tensor:
    """Which points equal one of the originals, that is, lie in a closed ball of radius 0: (P,) bool."""
    if not len(originals):
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    known = set(_rows_as_bytes(originals))
    return torch.tensor([row in known for row in _rows_as_bytes(points)], device=points.device)


def _rows_as_bytes(x: Tensor) -> Iterator[bytes]:
    return ((row + 0.0).tobytes() for row in x.cpu().numpy())  # + 0.0 turns -0.0 into 0.0


def upper_bounds(left: Tensor, right: Tensor, buffer: Tensor) -> Tensor:
    """Upper bounds of p, (n, m) float32, in the memory of `buffer`."""
    with full_float32():  # TF32 and bfloat16 would err by more than the margins
        return torch.mm(left, right.T, out=buffer[: len(left) * len(right)].view(len(left), len(right)))


def reaching(tile: Tensor, row_needs: Tensor, column_needs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns of a tile's values above what the row or the column needs. Bounds of equal values are above it.

    row_needs: (n,). column_needs: (m,).
    """
    # On a CPU numpy compares twice as fast as torch, and finds the few pairs seven times as fast.
    on_cpu = tile.device.type == "cpu"
    values, rows, columns = (x.numpy() if on_cpu else x for x in (tile, row_needs.float(), column_needs.float()))
    reached = values > rows[:, None]
    reached |= values > columns
    place = torch.from_numpy(np.flatnonzero(reached)) if on_cpu else reached.flatten().nonzero().squeeze(1)
    return place // tile.shape[1], place % tile.shape[1]


class _Largest:
    """The largest values found so far in each of `count` rows, in falling order, and their columns: (count, keep)."""

    def __init__(self, count: int, keep: int, like: Tensor) -> None:
        self.values = like.new_full((count, keep), -inf)
        self.columns = torch.zeros_like(self.values, dtype=torch.int64)

    def add(self, row: Tensor, column: Tensor, value: Tensor) -> None:
        new = chosen(value > self.values[row, -1])
        if not len(new):
            return
        new = new[row[new].argsort(stable=True)]
        touched, counts = row[new].unique_consecutive(return_counts=True)
        line = torch.arange(len(touched), device=row.device).repeat_interleave(counts)
        place = torch.arange(len(new), device=row.device) - (counts.cumsum(0) - counts)[line]
        keep, widest = self.values.shape[1], int(counts.max())
        values = torch.nn.functional.pad(self.values[touched], (0, widest), value=-inf)
        columns = torch.nn.functional.pad(self.columns[touched], (0, widest))
        values[line, keep + place], columns[line, keep + place] = value[new], column[new]
        self.values[touched], order = values.topk(keep)
        self.columns[touched] = columns.gather(1, order)


def nearest_others(points: Points, keep: int) -> _Largest:
    """The largest bounds of p of every point with other points. Each pair of blocks is multiplied once."""
    nearest, parts = _Largest(len(points), keep, points.operands), blocks(len(points))
    buffer = points.buffer()
    for rows in parts:  # first, since then the other blocks add little
        tile = upper_bounds(points.left(rows), points.operands[rows], buffer).fill_diagonal_(-inf)
        some = min(keep, len(tile))
        nearest.values[rows, :some], columns = tile.topk(some)
        nearest.columns[rows, :some] = columns + rows.start
    for number, rows in enumerate(parts):
        left = points.left(rows)
        for columns in parts[number + 1 :]:
            tile = upper_bounds(left, points.operands[columns], buffer)
            row, column = reaching(tile, nearest.values[rows, -1], nearest.values[columns, -1])
            value = tile[row, column]
            row, column = row + rows.start, column + columns.start
            nearest.add(row, column, value)
            nearest.add(column, row, value)
    return nearest


def _crowded_radii(points: Points, rows: Tensor, limits: Tensor, k: int) -> Tensor:
    """Squared radii of some points, (n,), by distances in float64 to all points that may be within the limits."""
    nearest, left, buffer = _Largest(len(rows), k, limits), points.left(rows), points.buffer()
    for columns in blocks(len(points)):
        tile = upper_bounds(left, points.operands[columns], buffer)
        row, column = reaching(tile, -limits / 2, limits.new_full((tile.shape[1],), inf))
        column = column + columns.start
        others = rows[row] != column
        row, column = row[others], column[others]
        nearest.add(row, column, -squared_distances(points, points, rows[row], column))
    return -nearest.values[:, -1]


def squared_distances(first: Points, second: Points, row: Tensor, column: Tensor) -> Tensor:
    """The squared distance of each pair, (M,) float64. Equal pairs are equal to the last bit, so ties stay ties."""
    x, y = first.features, second.features
    squared = torch.empty(len(row), dtype=torch.float64, device=x.device)
    values = VALUES if x.device.type == "cpu" else VALUES_ON_GPU
    last, size = len(row) - 1, max(1, values // x.shape[1])
    for start in range(0, len(row), size):
        # Always as many: sums over tensors of another shape may use another order.
        pairs = torch.arange(start, start + size, device=x.device).clamp_(max=last)
        difference = x.index_select(0, row[pairs]).double().sub_(y.index_select(0, column[pairs]))
        squared[start : start + size] = difference.square_().sum(dim=1)[: len(row) - start]
    return squared
