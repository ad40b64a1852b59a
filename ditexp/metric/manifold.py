"""Balls around features that reach their k-th neighbours, and who lies in them: exact, at the speed of products.

Everything is said in halves of negative squared distances, p = -d^2 / 2, which a matrix product gives when points have
two more coordinates: p = (x, 1, -|x|^2 / 2) . (y, -|y|^2 / 2, 1). In float32 it is made an upper bound of p; the few
pairs that bounds leave open are decided in float64. So results are those of the definition in float64, whatever the
order of summation within the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import BLOCK_SIZE, blocks

SPARE = 5  # neighbours kept beyond the k-th, as rounding errors may have changed their order
PAIRS = 64  # rows treated at a time in float64: few enough to stay in a cache
Pairs = tuple[Tensor, Tensor]  # int64 indices of points, and of as many centres


class Points:
    """Features prepared for comparisons: their (N, D) float32, and operands and margins for bounds of p.

    centre: (D,) float32, the same for sets that are compared. Raises ValueError where squares overflow float32.

    operands: (N, D + 2) float32, right-hand ones (y, m - |y|^2 / 2, 1); margins: (N,) float64, the m. The sum of two
    points' margins is above the worst error of their p: with u = 2^-24, (D + 2) u (|x|^2 + |y|^2) for the product in
    any order, at most 6 u for the rounding of x, |x|^2 and what is compared, and D + 2 underflows.
    """

    def __init__(self, features: Tensor, centre: Tensor) -> None:
        size, limits = features.shape[1], torch.finfo(torch.float32)
        self.features = features
        self.operands = features.new_empty(len(features), size + 2)
        self.margins = features.new_empty(len(features), dtype=torch.float64)
        for rows in blocks(len(features)):
            centred = torch.sub(features[rows], centre, out=self.operands[rows, :size])
            parts = centred.split(PAIRS)
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

    def room(self) -> Tensor:
        """Memory for the bounds of a block with a block: to take it anew for each would cost time."""
        return self.operands.new_empty(BLOCK_SIZE**2)


def points_of(first: Tensor, second: Tensor) -> tuple[Points, Points]:
    """Two sets of features, to be compared with each other."""
    # Any centre is right; a near one, which outliers don't drag away, makes the bounds tight.
    centre = second[:256].median(dim=0).values
    return Points(first, centre), Points(second, centre)


def squared_radii(points: Points, k: int) -> Tensor:
    """(N,) float64 squared distance of each point to its k-th nearest other point; N > k."""
    nearest = _nearest(points, k + SPARE)
    upper = nearest.values.double()
    lower = upper - 2 * (points.margins[:, None] + points.margins[nearest.columns])
    kth_lower, kth_upper = lower.topk(k).values[:, -1:], upper[:, k - 1 : k]
    closer = lower > kth_upper
    row, place = ((upper >= kth_lower) & ~closer).nonzero().unbind(dim=1)
    squared = upper.new_full(upper.shape, inf).masked_fill_(closer, -inf)
    squared[row, place] = _squared_distances(points, points, row, nearest.columns[row, place])
    radii = squared.kthvalue(k, dim=1).values
    # So many are as near as the k-th that some may have been dropped; only copies can't be outdone.
    crowded = (upper[:, -1] >= kth_lower[:, 0]) & (radii > 0)
    for rows in crowded.nonzero().squeeze(1).split(BLOCK_SIZE):
        radii[rows] = _crowded_radii(points, rows, radii[rows], k)
    return radii


def pairs_in_balls(
    points: Points, centres: Points, *, centre_radii: Tensor, point_radii: Tensor | None = None, closed: bool
) -> Iterator[tuple[Pairs, Pairs]]:
    """Which points lie in balls around centres and, from the same products, which centres in balls around points.

    Radii: (C,) and (P,) float64, squared. closed: balls have their surface.
    Gives, some of all pairs at a time, those where the point is in the centre's ball, and those where the centre is in
    the point's, of which there are none without point_radii. Balls of radius 0 are left out: see `are_copies`.
    """
    if point_radii is None:
        point_radii = centre_radii.new_zeros(len(points))
    # The p that a pair must reach to be in a ball.
    by_centre, by_point = (torch.where(radii > 0, -radii / 2, inf) for radii in (centre_radii, point_radii))
    room = points.room()
    for rows in blocks(len(points)):
        left = points.left(rows)
        for columns in blocks(len(centres)):
            tile = _upper_bounds(left, centres.operands[columns], room)
            row, column = _reaching(tile, by_point[rows], by_centre[columns])
            upper = tile[row, column].double()
            row, column = row + rows.start, column + columns.start
            lower = upper - 2 * (points.margins[row] + centres.margins[column])
            needed = torch.stack([by_centre[column], by_point[row]])
            inside = lower > needed
            unsure = ((upper >= needed) & ~inside).any(dim=0).nonzero().squeeze(1)
            exact = -_squared_distances(points, centres, row[unsure], column[unsure]) / 2
            inside[:, unsure] = exact >= needed[:, unsure] if closed else exact > needed[:, unsure]
            in_centres, in_points = ((row[mask], column[mask]) for mask in inside)
            yield in_centres, in_points


def are_copies(points: Tensor, originals: Tensor) -> Tensor:
    """(P,) bool, which points equal one of the originals, that is lie in a closed ball of radius 0."""
    if not len(originals):
        return torch.zeros(len(points), dtype=torch.bool, device=points.device)
    known = set(_rows_as_bytes(originals))
    return torch.tensor([row in known for row in _rows_as_bytes(points)], device=points.device)


def _rows_as_bytes(x: Tensor) -> Iterator[bytes]:
    return ((row + 0.0).tobytes() for row in x.cpu().numpy())  # + 0.0 turns -0.0 into 0.0


def _upper_bounds(left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """(n, m) float32 upper bounds of p, which lie in `room`."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # TF32 and bfloat16 would err by more than the margins
    try:
        return torch.mm(left, right.T, out=room[: len(left) * len(right)].view(len(left), len(right)))
    finally:
        torch.set_float32_matmul_precision(before)


def _reaching(tile: Tensor, row_needs: Tensor, column_needs: Tensor) -> tuple[Tensor, Tensor]:
    """Rows and columns where a tile is above what its row needs, or its column; so are bounds of all that just do."""
    # On a CPU numpy compares twice as fast as torch, and finds the few that reach seven times as fast.
    on_cpu = tile.device.type == "cpu"
    values, rows, columns = (x.numpy() if on_cpu else x for x in (tile, row_needs.float(), column_needs.float()))
    reached = values > rows[:, None]
    reached |= values > columns
    place = torch.from_numpy(np.flatnonzero(reached)) if on_cpu else reached.flatten().nonzero().squeeze(1)
    return place // tile.shape[1], place % tile.shape[1]


class _Largest:
    """The largest values found so far in each of `count` rows, falling, (count, keep), and their columns."""

    def __init__(self, count: int, keep: int, like: Tensor) -> None:
        self.values = like.new_full((count, keep), -inf)
        self.columns = torch.zeros_like(self.values, dtype=torch.int64)

    def add(self, row: Tensor, column: Tensor, value: Tensor) -> None:
        new = (value > self.values[row, -1]).nonzero().squeeze(1)
        new = new[row[new].argsort(stable=True)]
        touched, counts = row[new].unique_consecutive(return_counts=True)
        if not len(touched):
            return
        line = torch.arange(len(touched), device=row.device).repeat_interleave(counts)
        place = torch.arange(len(new), device=row.device) - (counts.cumsum(0) - counts)[line]
        keep, widest = self.values.shape[1], int(counts.max())
        values = torch.nn.functional.pad(self.values[touched], (0, widest), value=-inf)
        columns = torch.nn.functional.pad(self.columns[touched], (0, widest))
        values[line, keep + place], columns[line, keep + place] = value[new], column[new]
        self.values[touched], order = values.topk(keep)
        self.columns[touched] = columns.gather(1, order)


def _nearest(points: Points, keep: int) -> _Largest:
    """The largest bounds of p of every point with others, each pair of blocks multiplied once."""
    nearest, parts = _Largest(len(points), keep, points.operands), blocks(len(points))
    room = points.room()
    for rows in parts:  # first, since the others then find little to add
        tile = _upper_bounds(points.left(rows), points.operands[rows], room).fill_diagonal_(-inf)
        some = min(keep, len(tile))
        nearest.values[rows, :some], columns = tile.topk(some)
        nearest.columns[rows, :some] = columns + rows.start
    for number, rows in enumerate(parts):
        left = points.left(rows)
        for columns in parts[number + 1 :]:
            tile = _upper_bounds(left, points.operands[columns], room)
            row, column = _reaching(tile, nearest.values[rows, -1], nearest.values[columns, -1])
            value = tile[row, column]
            row, column = row + rows.start, column + columns.start
            nearest.add(row, column, value)
            nearest.add(column, row, value)
    return nearest


def _crowded_radii(points: Points, rows: Tensor, limits: Tensor, k: int) -> Tensor:
    """(n,) squared radii of some points, decided in float64 among all points whose bounds reach below the limits."""
    nearest, left, room = _Largest(len(rows), k, limits), points.left(rows), points.room()
    for columns in blocks(len(points)):
        tile = _upper_bounds(left, points.operands[columns], room)
        row, column = _reaching(tile, -limits / 2, limits.new_full((tile.shape[1],), inf))
        column = column + columns.start
        others = rows[row] != column
        row, column = row[others], column[others]
        nearest.add(row, column, -_squared_distances(points, points, rows[row], column))
    return -nearest.values[:, -1]


def _squared_distances(first: Points, second: Points, row: Tensor, column: Tensor) -> Tensor:
    """(M,) float64, of the pairs of row and column; equal to the last bit for equal pairs, so that ties are ties."""
    x, y = first.features, second.features
    squared = torch.empty(len(row), dtype=torch.float64, device=x.device)
    last = len(row) - 1
    for start in range(0, len(row), PAIRS):
        # Always PAIRS of them, since sums over tensors of another shape may be taken in another order.
        pairs = torch.arange(start, start + PAIRS, device=x.device).clamp_(max=last)
        difference = x.index_select(0, row[pairs]).double().sub_(y.index_select(0, column[pairs]))
        squared[start : start + PAIRS] = difference.square_().sum(dim=1)[: len(row) - start]
    return squared
