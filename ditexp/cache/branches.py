"""The outputs of the branches of all blocks, remembered and extrapolated in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ditexp.cache.base import Periodic, PeriodicState
from ditexp.core import TransformerBlock, TransformerModel

Outputs = tuple[Tensor, ...]  # of the branches of one block, (B, N, D) each
CLOSE = 1e-6  # times this close, relative to the larger of them and 1, are equal: rounding alone would differ


class Branches(PeriodicState):
    """F, the branches' outputs at the last full evaluation, and their differences D_i in time up to an order.

    Times are those that the network is given. With the times t_0, t_1, ... of the full evaluations, the newest first,
    D_0 = F(t_0) and

        Taylor:  D_i = (D_(i-1) - D'_(i-1)) / (t_0 - t_1)    F(t) ~ sum over i of D_i (t - t_0)^i / i!
        Newton:  D_i = (D_(i-1) - D'_(i-1)) / (t_0 - t_i)    F(t) ~ sum over i of D_i (t - t_0) ... (t - t_(i-1))

    where D' is of the full evaluation before. Both are straight lines for order 1. Newton's is the polynomial through
    the outputs at the last order + 1 times, on any grid.

    An evaluation at the time of the one before replaces F alone: its differences in time do not exist.
    """

    def __init__(self, cache: Periodic, model: TransformerModel, *, order: int = 0, newton: bool = False) -> None:
        super().__init__(cache)
        self.model, self.order, self.newton = model, order, newton
        self.forget()

    def forget(self) -> None:
        self.times: list[float] = []
        self.differences: dict[int, list[Outputs]] = {}  # D_0, D_1, ... by the number of the block

    def full(self, t: float) -> Remembering:
        time = self.model.network_time(t)
        if self.times and are_equal(time, self.times[0]):
            return Remembering(self, distances=None)
        before = self.times[: self.order]
        self.times = [time, *before]
        divisors = before if self.newton else before[:1] * self.order
        return Remembering(self, [time - one for one in divisors])

    def partial(self, t: float) -> Extrapolating:
        time = self.model.network_time(t)
        steps = [time - one for one in self.times]
        if self.newton:
            return Extrapolating(self, [math.prod(steps[:i]) for i in range(self.order + 1)])
        return Extrapolating(self, [steps[0] ** i / math.factorial(i) for i in range(self.order + 1)])

    def remember(self, number: int, outputs: Outputs, distances: Sequence[float] | None) -> None:
        """Update the differences of a block. distances: by which to divide those of order 1, 2, ...; None: keep."""
        before = self.differences.get(number, [])
        if distances is None:
            self.differences[number] = [outputs, *before[1:]]
            return
        found = [outputs]
        for earlier, distance in zip(before, distances):
            if are_equal(distance, 0):
                break
            found.append(tuple((new - old) / distance for new, old in zip(found[-1], earlier)))
        self.differences[number] = found

    def extrapolated(self, number: int, weights: Sequence[float]) -> list[Tensor]:
        """The outputs of a block's branches. weights: of D_0 (which is 1), D_1, ..."""
        return [weighted_sum(differences, weights) for differences in zip(*self.differences[number])]


@dataclass(frozen=True)
class Remembering:
    """A full evaluation."""

    state: Branches
    distances: Sequence[float] | None
    is_full = True

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        tokens, outputs = block.computed(tokens, c, *inputs, **given)
        self.state.remember(number, outputs, self.distances)
        return tokens


@dataclass(frozen=True)
class Extrapolating:
    """An evaluation in which no block computes its branches; their gates are those of its own time."""

    state: Branches
    weights: Sequence[float]
    is_full = False

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        return block.completed(tokens, c, self.state.extrapolated(number, self.weights))


def weighted_sum(terms: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The first term, and the others times their weights."""
    total = terms[0]
    for number, (term, weight) in enumerate(zip(terms[1:], weights[1:])):
        total = total.add_(term, alpha=weight) if number else torch.add(total, term, alpha=weight)
    return total


def are_equal(first: float, second: float) -> bool:
    return math.isclose(first, second, rel_tol=CLOSE, abs_tol=CLOSE)
