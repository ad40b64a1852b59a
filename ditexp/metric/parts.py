"""Balls of many parts of one set, whose distances are computed once."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import torch
from torch import Tensor

from ditexp.metric.base import blocks
from ditexp.metric.manifold import Points, nearest_others, reaching, squared_distances, upper_bounds

# Neighbours kept for each of the k: fewer than k of them are in a random half once in 50,000 times for k = 3.
LISTED = 8
CROWDED = 256  # pairs for each feature, above which a list of them takes too much memory


@dataclass(frozen=True)
class Parts:
    """What the balls of parts of a set need: all are exact, in float64.

    others: (N, L) int64, the nearest other points of each, and distances: (N, L) squared, to them. limits: (N,): points
    that are not listed are at least as far. point, centre: (M,) int64 pairs that may lie in a ball, at `between`, (M,)
    squared. count: of the other set.
    """

    k: int
    count: int
    others: Tensor
    distances: Tensor
    limits: Tensor
    point: Tensor
    centre: Tensor
    between: Tensor

    @staticmethod
    def of(points: Points, centres: Points, k: int) -> Parts | None:
        """None where so many points are equally near that listing them takes too much memory."""
        count = len(points)
        listed = min(LISTED * k, count - 1)
        nearest = nearest_others(points, listed)
        row = torch.arange(count, device=nearest.columns.device).repeat_interleave(listed)
        distances = squared_distances(points, points, row, nearest.columns.flatten()).view(count, listed)
        limits = -2 * nearest.values[:, -1].double() if listed < count - 1 else distances.new_full((count,), inf)
        reach, buffer, pairs, found = distances.amax(1), points.buffer(), [], 0
        for rows in blocks(count):
            left = points.left(rows)
            for columns in blocks(len(centres)):
                tile = upper_bounds(left, centres.operands[columns], buffer)
                row, column = reaching(tile, -reach[rows] / 2, reach.new_full((tile.shape[1],), inf))
                pairs.append((row + rows.start, column + columns.start))
                found += len(row)
                if found > CROWDED * (count + len(centres)):
                    return None
        point, centre = map(torch.cat, zip(*pairs))
        between = squared_distances(points, centres, point, centre)
        return Parts(k, len(centres), nearest.columns, distances, limits, point, centre, between)

    def covered(self, rows: Tensor) -> Tensor | None:
        """Which centres lie in closed balls around the part's points that reach their k-th nearest other in the part.

        (C,) bool; None where too few neighbours of a point are listed.
        """
        is_in = torch.zeros(len(self.limits), dtype=torch.bool, device=rows.device)
        is_in[rows] = True
        distances = self.distances[rows].masked_fill_(~is_in[self.others[rows]], inf)
        radii = self.limits.new_full((len(is_in),), -1.0)
        radii[rows] = distances.kthvalue(self.k, dim=1).values
        if (radii >= self.limits).any():
            return None
        covered = torch.zeros(self.count, dtype=torch.bool, device=rows.device)
        covered[self.centre[self.between <= radii[self.point]]] = True
        return covered
