"""Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch

from ditexp.core import Features


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)) in each of `splits` consecutive parts; float64, needs no reference.

    Where the count is no multiple of `splits`, the first parts have one image more. Gives `inception_score`,
    the mean over parts, and `inception_score_std`, their standard deviation (divisor `splits`). Raises
    ValueError without logits, or with fewer images than parts.
    """

    splits: int = 10

    def check(self, *, fake: int, real: int | None) -> None:
        if fake < self.splits:
            raise ValueError(
                f"inception_score needs an image for each of its splits={self.splits}, got {fake}: "
                "raise num_samples or lower metric.inception_score.splits"
            )

    def __call__(self, fake: Features, real: Features | None = None) -> dict[str, float]:
        self.check(fake=fake.count, real=None)
        if fake.logits is None:
            raise ValueError("inception_score needs class logits, but the features have none: choose feature=inception")
        scores = []
        for logits in fake.logits.tensor_split(self.splits):
            log_p = logits.double().log_softmax(dim=1)
            log_marginal = log_p.logsumexp(dim=0) - log(len(log_p))
            scores.append((log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean().exp())
        scores = torch.stack(scores)
        return {
            "inception_score": scores.mean().item(),
            "inception_score_std": scores.std(correction=0).item(),
        }
