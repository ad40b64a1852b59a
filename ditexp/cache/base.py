"""What the caches share: regular full evaluations, and evaluations between them that reuse what those left behind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from ditexp.checks import whole
from ditexp.core import CacheState, TransformerModel, Walk


@dataclass(frozen=True, kw_only=True)
class Periodic(ABC):
    """A cache whose evaluations are full at the start, and then once every `interval`.

    interval: N, of every N evaluations one is full and N - 1 reuse. 1: all are full, and nothing is reused.
    first: this many at the start are full.
    """

    interval: int = 3
    first: int = 1

    def __post_init__(self) -> None:
        whole("cache.interval", self.interval, minimum=1)
        whole("cache.first", self.first, minimum=1)

    @property
    def period(self) -> int:
        """After so many evaluations one has reused outputs, if any does."""
        return self.first + self.interval

    @property
    def work(self) -> tuple[Any, ...]:
        """What decides how much an evaluation computes that reuses outputs."""
        return ("no branches",)

    def check(self, model: TransformerModel) -> None:
        """Raise ValueError if the model's blocks cannot be cached in this way."""
        return  # every block can

    @abstractmethod
    def begin(self, model: TransformerModel) -> CacheState:
        """The state of an integration that begins."""


class PeriodicState(ABC):
    """The state of one integration: which evaluation is full, by their number and by the rows in their batch.

    Guidance in an interval of t has other rows on than off. The first evaluation with other rows is full: nothing is
    known of the new ones.
    """

    def __init__(self, cache: Periodic) -> None:
        self.cache = cache
        self.count = 0  # evaluations so far
        self.reused = 0  # of them, since the last full one
        self.rows = 0  # in the batch of the last one

    def evaluation(self, t: float, rows: int) -> Walk:
        if rows != self.rows:
            self.forget()
        is_due = self.count < self.cache.first or self.reused == self.cache.interval - 1
        if is_due or rows != self.rows or not self.fits(t):
            walk, self.reused = self.full(t), 0
        else:
            walk, self.reused = self.partial(t), self.reused + 1
        self.count, self.rows = self.count + 1, rows
        return walk

    def fits(self, t: float) -> bool:
        """Whether what is remembered can be reused at t."""
        return True

    @abstractmethod
    def forget(self) -> None:
        """Remember nothing of other rows."""

    @abstractmethod
    def full(self, t: float) -> Walk:
        """A walk that computes every block, and remembers."""

    @abstractmethod
    def partial(self, t: float) -> Walk:
        """A walk that reuses what the last full one remembers."""
