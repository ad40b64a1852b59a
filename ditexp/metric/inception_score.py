"""Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ditexp.core import Features
from ditexp.metric.base import output


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)) within parts of the samples, in float64; their mean is `inception_score`.

    splits: so many parts, from i N // splits to (i + 1) N // splits; `inception_score_std` is then the scores'
    standard deviation (divisor `splits`), as torch-fidelity has it. split_size: parts of so many samples, the last
    one with what is left, as in ADM's evaluator, which gives no deviation. Give one of the two.
    shuffle_seed: draw the parts in the order of numpy's RandomState(seed).permutation; None: as the samples come.
    Raises ValueError for fewer samples than parts, without logits, or with logits that are not finite.
    """

    splits: int | None = None
    split_size: int | None = None
    shuffle_seed: int | None = None

    uses: ClassVar[str] = "logits"
    reference: ClassVar[None] = None

    def __post_init__(self):
        if (self.splits is None) == (self.split_size is None):
            raise ValueError(
                f"metric.inception_score got splits={self.splits} and split_size={self.split_size}: give one of them, "
                "and null for the other"
            )
        for name in ("splits", "split_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"metric.inception_score.{name}={value}: choose 1 or more")

    def check(self, *, fake: int, real: int | None) -> None:
        if fake < (self.splits or 1):
            raise ValueError(
                f"inception_score needs an image for each of its splits={self.splits}, got {fake}: "
                "raise num_samples or lower metric.inception_score.splits"
            )

    def __call__(self, fake: Features, real: Features | None = None) -> dict[str, float]:
        logits = output(fake, self.uses, metric="inception_score")
        self.check(fake=len(logits), real=None)
        scores = torch.stack([self._score(logits[rows.to(logits.device)]) for rows in self._parts(len(logits))])
        result = {"inception_score": scores.mean().item()}
        if self.splits is not None:
            result["inception_score_std"] = scores.std(correction=0).item()
        return result

    def _parts(self, count: int) -> list[Tensor]:
        """The int64 indices of each part."""
        if self.shuffle_seed is None:
            order = torch.arange(count)
        else:
            order = torch.from_numpy(np.random.RandomState(self.shuffle_seed).permutation(count))
        if self.splits is None:
            return list(order.split(self.split_size))
        return [order[i * count // self.splits : (i + 1) * count // self.splits] for i in range(self.splits)]

    @staticmethod
    def _score(logits: Tensor) -> Tensor:
        log_p = logits.double().log_softmax(dim=1)
        log_marginal = log_p.logsumexp(dim=0) - log(len(log_p))
        return (log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean().exp()
