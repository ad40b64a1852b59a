"""Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt

import numpy as np
import torch
from torch import Tensor

from ditexp.checks import whole
from ditexp.metric.base import MAX_SEED, Metric, output
from ditexp.terminal.notices import notice
from ditexp.values import Features

MAX_ORDER_ERROR = 0.01  # relative error that the order of images may cause without a notice
MAX_SIZE_ERROR = 0.05  # relative error that the small number of images may cause without a notice


@dataclass(frozen=True)
class InceptionScore(Metric):
    """IS = exp(mean over x of KL(p(y|x) || p(y))), computed for parts of the samples and averaged, in float64.

    splits: the number of parts; part i runs from i N // splits to (i + 1) N // splits. `inception_score_std` is then
    the standard deviation of the parts' scores (divisor `splits`), as in torch-fidelity. split_size: the number of
    samples of each part; the last part has the rest, as in ADM's evaluator, which gives no deviation. Give one of the
    two. shuffle_seed: shuffle the samples by numpy's RandomState(seed).permutation first; None keeps their order.

    A notice is given if the parts differ because of the order of samples, or if they have few images. Raises ValueError
    for fewer samples than parts, without logits, or with logits that are not finite.
    """

    splits: int | None = None
    split_size: int | None = None
    shuffle_seed: int | None = None

    uses = "logits"
    reference = None

    def __post_init__(self) -> None:
        if (self.splits is None) == (self.split_size is None):
            raise ValueError(
                f"metric.inception_score got splits={self.splits} and split_size={self.split_size}: give one of them, "
                "and null for the other"
            )
        if self.splits is not None:
            whole("metric.inception_score.splits", self.splits, minimum=1)
        if self.split_size is not None:
            whole("metric.inception_score.split_size", self.split_size, minimum=1)
        if self.shuffle_seed is not None:
            whole("metric.inception_score.shuffle_seed", self.shuffle_seed, minimum=0, maximum=MAX_SEED)

    def check(self, *, fake: int, real: int | None) -> None:
        if fake < (self.splits or 1):
            raise ValueError(
                f"inception_score needs an image for each of its splits={self.splits}, got {fake}: "
                "raise num_samples or lower metric.inception_score.splits"
            )

    def __call__(self, fake: Features, real: Features | None = None) -> dict[str, float]:
        logits = output(fake, self.uses, metric="inception_score")
        self.check(fake=len(logits), real=None)
        parts = self._parts(logits)
        scores = torch.stack([part.divergence.exp() for part in parts])
        result = {"inception_score": scores.mean().item()}
        if self.splits is not None:
            result["inception_score_std"] = scores.std(correction=0).item()

        def shuffled() -> float:
            other = replace(self, shuffle_seed=1)._parts(logits)
            return torch.stack([part.divergence.exp() for part in other]).mean().item()

        for message in caveats(parts, scores, size=self.split_size, shuffled=shuffled):
            notice(message)
        return result

    def _parts(self, logits: Tensor) -> list[Part]:
        return [Part.of(logits[rows.to(logits.device)]) for rows in self._rows(len(logits))]

    def _rows(self, count: int) -> list[Tensor]:
        """The int64 indices of each part."""
        if self.shuffle_seed is None:
            order = torch.arange(count)
        else:
            order = torch.from_numpy(np.random.RandomState(self.shuffle_seed).permutation(count))
        if self.split_size is not None:
            return list(order.split(self.split_size))
        assert self.splits is not None  # see __post_init__
        return [order[i * count // self.splits : (i + 1) * count // self.splits] for i in range(self.splits)]


@dataclass(frozen=True)
class Part:
    """What the score of a part is made of.

    count: its images. divergence: the mean over x of KL(p(y|x) || p(y)). mean: of p(y|x), which is p(y), (K,).
    square: the mean of p(y|x)^2, (K,).
    """

    count: int
    divergence: Tensor
    mean: Tensor
    square: Tensor

    @staticmethod
    def of(logits: Tensor) -> Part:
        log_p = logits.double().log_softmax(dim=1)
        p, log_marginal = log_p.exp(), log_p.logsumexp(dim=0) - log(len(log_p))
        divergence = (p * (log_p - log_marginal)).sum(dim=1).mean()
        return Part(len(log_p), divergence, log_marginal.exp(), p.square().mean(dim=0))


def caveats(parts: Sequence[Part], scores: Tensor, *, size: int | None, shuffled: Callable[[], float]) -> Iterator[str]:
    """What a reader of the score needs to know: parts that differ by order or size, or that have few images.

    size: the size of a part that the protocol prescribes; such parts do not count as small. shuffled: computes the
    score of the images in another order.

    The logarithm of a part's score is smaller than the logarithm for all images at once by KL(p_part(y) || p(y)). For a
    random part of n images this is about V / 2n with V = sum_y Var_x p(y|x) / p(y), since 2n KL is distributed like a
    chi-square. If the images are sorted by class, it is larger. With few images per class V is underestimated, so a
    score that looks low is compared with the score in another order before a notice is given.
    """
    total, value = sum(part.count for part in parts), scores.mean().item()
    zero = torch.zeros_like(parts[0].mean)
    mean = sum((part.count / total * part.mean for part in parts), zero).clamp(min=1e-300)
    square = sum((part.count / total * part.square for part in parts), zero)
    variance = max((square / mean).sum().item() - 1, 0.0)
    apart = sum(part.count / total * divergence(part.mean, mean) for part in parts)
    at_once = exp(sum(part.count / total * part.divergence.item() for part in parts) + apart)
    remedy = "metric.inception_score.splits=1 metric.inception_score.split_size=null"

    expected = variance * (len(parts) - 1) / (2 * total)
    limit = expected * (1 + 5 * sqrt(2 / max(variance * (len(parts) - 1), 1e-9)))
    if apart > limit and apart - expected > MAX_ORDER_ERROR and value < (1 - MAX_ORDER_ERROR) * shuffled():
        yield (
            f"inception_score={value:.6g} is low because its {len(parts)} parts differ by the order of the images; of "
            f"all images at once it is {at_once:.6g} ({remedy}): shuffle images that are sorted by class"
        )
    elif abs(scores[:-1].mean().item() / value - 1) > MAX_ORDER_ERROR and 2 * parts[-1].count < parts[0].count:
        yield (
            f"inception_score={value:.6g}: its last part has only {parts[-1].count:,} images but counts as much as "
            f"parts of {parts[0].count:,}; of all images at once it is {at_once:.6g} ({remedy})"
        )
    count = parts[0].count
    if count != size and (count < len(mean) or variance > 2 * MAX_SIZE_ERROR * count):
        what = f"parts of {count:,}" if len(parts) > 1 else f"{count:,}"
        yield (
            f"inception_score of {what} image{'s' * (count > 1)} in {len(mean):,} classes is biased downward, more so "
            "with fewer images: compare it only at equal counts, or add images"
        )


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q) of probabilities (K,)."""
    return (p * (p.clamp(min=1e-300).log() - q.log())).sum().item()
