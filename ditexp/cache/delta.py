from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ditexp.cache.base import Periodic, PeriodicState
from ditexp.checks import number, whole
from ditexp.core import PartedModel, TransformerBlock, TransformerModel


@dataclass(frozen=True, kw_only=True)
class Delta(Periodic):
    """Delta-DiT (Chen et al. 2024, arXiv 2406.01125): what a range of blocks adds to the tokens is reused.

        x_b(t) = x_a(t) + x_b(t_0) - x_a(t_0)    x_a, x_b: the tokens before and after the range

    with t_0 the time of the last full evaluation. The range is the rear blocks while samples are mostly noise and the
    front blocks later: the front ones form the outline, the rear ones the details. The other blocks are computed. The
    first evaluation with the other range is full. The authors published no code.

    blocks: how many are skipped; None: half of them. boundary: the time t at which the range changes.
    """

    interval: int = 2
    blocks: int | None = None
    boundary: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.blocks is not None:
            whole("cache.blocks", self.blocks, minimum=1)
        number("cache.boundary", self.boundary, minimum=0, maximum=1)

    @property
    def work(self) -> tuple[Any, ...]:
        return "all but a range of blocks", self.blocks

    def check(self, model: TransformerModel) -> None:
        if isinstance(model, PartedModel) and len(model.parts) > 1:
            raise ValueError(
                "cache: Delta reuses what a range of blocks adds to the tokens, and here trunk and head have tokens of "
                "their own: choose cache=taylorseer or cache=fora"
            )
        if (self.blocks or 0) > len(model.blocks):
            raise ValueError(f"cache.blocks={self.blocks}: this model has {len(model.blocks)}, give at most that")

    def begin(self, model: TransformerModel) -> Difference:
        return Difference(self, len(model.blocks))


class Difference(PeriodicState):
    """What a range of blocks added to the tokens at the last full evaluation."""

    def __init__(self, cache: Delta, depth: int) -> None:
        super().__init__(cache)
        self.count_of_blocks = cache.blocks or max(1, depth // 2)
        self.boundary, self.depth = cache.boundary, depth
        self.blocks = range(0)  # that the difference is of
        self.forget()

    def forget(self) -> None:
        self.before: Tensor | None = None
        self.difference: Tensor | None = None

    def range_at(self, t: float) -> range:
        """Which blocks are skipped at time t."""
        first = 0 if t >= self.boundary else self.depth - self.count_of_blocks
        return range(first, first + self.count_of_blocks)

    def fits(self, t: float) -> bool:
        return self.range_at(t) == self.blocks

    def full(self, t: float) -> Measuring:
        self.blocks = self.range_at(t)
        return Measuring(self)

    def partial(self, t: float) -> Skipping:
        return Skipping(self)


@dataclass(frozen=True)
class Measuring:
    """A full evaluation."""

    state: Difference
    is_full = True

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        after = block(tokens, c, *inputs, **given)
        blocks = self.state.blocks
        if number == blocks[0]:
            self.state.before = tokens
        before = self.state.before
        if number in blocks and before is not None:
            if joined := tokens.shape[1] - before.shape[1]:  # in-context tokens join within the range
                self.state.before = before = torch.cat([tokens[:, :joined], before], dim=1)
            if number == blocks[-1]:
                self.state.difference, self.state.before = after - before, None
        return after


@dataclass(frozen=True)
class Skipping:
    """An evaluation that skips the range, and adds the difference after it."""

    state: Difference
    is_full = False

    def __call__(
        self, number: int, block: TransformerBlock, tokens: Tensor, c: Tensor, *inputs: Any, **given: Any
    ) -> Tensor:
        if number not in self.state.blocks:
            return block(tokens, c, *inputs, **given)
        if number < self.state.blocks[-1]:
            return tokens
        assert self.state.difference is not None, "a full evaluation comes first"
        return tokens + self.state.difference
