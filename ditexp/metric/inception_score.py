"""Inception Score (Salimans et al. 2016, arXiv 1606.03498, section 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import MOST_SEED, output, whole_number
from ditexp.terminal.notices import notice
from ditexp.values import Features

NOTICEABLE = 0.01  # by this share of it an Inception Score may be off without a notice
FEW = 0.05  # and by this one for having few images


@dataclass(frozen=True)
class InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)) within parts of the samples, in float64; their mean is `inception_score`.

    splits: so many parts, from i N // splits to (i + 1) N // splits; `inception_score_std` is then the scores'
    standard deviation (divisor `splits`), as torch-fidelity has it. split_size: parts of so many samples, the last
    one with what is left, as in ADM's evaluator, which gives no deviation. Give one of the two.
    shuffle_seed: draw the parts in the order of numpy's RandomState(seed).permutation; None: as the samples come.
    A notice tells when the parts differ because of the samples' order, or hold few images.
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
            if getattr(self, name) is not None:
                whole_number(f"metric.inception_score.{name}", getattr(self, name), least=1)
        if self.shuffle_seed is not None:
            whole_number("metric.inception_score.shuffle_seed", self.shuffle_seed, least=0, most=MOST_SEED)

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

        for message in oddities(parts, scores, size=self.split_size, shuffled=shuffled):
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
        if self.splits is None:
            return list(order.split(self.split_size))
        return [order[i * count // self.splits : (i + 1) * count // self.splits] for i in range(self.splits)]


@dataclass(frozen=True)
class Part:
    """`count` images: the mean of KL(p(y|x) || p(y)), and over x the means of p(y|x), which is p(y), and its square."""

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


def oddities(
    parts: Sequence[Part], scores: Tensor, *, size: int | None, shuffled: Callable[[], float]
) -> Iterator[str]:
    """What a reader of the score has to know: parts that differ by order or size, or hold few images.

    size: of a part as the protocol has it, which is not few. shuffled: finds the score in another order.

    Of random parts, the logarithm of the score is smaller than that of all images at once by the mean of KL(p_part(y)
    || p(y)), about V / 2n of n images with V = sum_y Var_x p(y|x) / p(y), as twice that times n is distributed like
    chi-square. The parts of a set sorted by class are further from p(y). With few images a class, that underestimates,
    so that the other order decides.
    """
    total, value = sum(part.count for part in parts), scores.mean().item()
    mean = sum(part.count / total * part.mean for part in parts).clamp(min=1e-300)
    square = sum(part.count / total * part.square for part in parts)
    variance = max((square / mean).sum().item() - 1, 0.0)
    apart = sum(part.count / total * divergence(part.mean, mean) for part in parts)
    at_once = exp(sum(part.count / total * part.divergence.item() for part in parts) + apart)
    remedy = "metric.inception_score.splits=1 metric.inception_score.split_size=null"

    expected = variance * (len(parts) - 1) / (2 * total)
    most = expected * (1 + 5 * sqrt(2 / max(variance * (len(parts) - 1), 1e-9)))
    if apart > most and apart - expected > NOTICEABLE and value < (1 - NOTICEABLE) * shuffled():
        yield (
            f"inception_score={value:.6g} is low since its {len(parts)} parts differ by the order of the images: it is "
            f"{at_once:.6g} of all at once ({remedy}); shuffle images that are sorted by class"
        )
    elif abs(scores[:-1].mean().item() / value - 1) > NOTICEABLE and 2 * parts[-1].count < parts[0].count:
        yield (
            f"inception_score={value:.6g}: its last part, of {parts[-1].count:,}, counts as much as those of "
            f"{parts[0].count:,} images; it is {at_once:.6g} of all at once ({remedy})"
        )
    count = parts[0].count
    if count != size and (count < len(mean) or variance > 2 * FEW * count):
        what = f"parts of {count:,}" if len(parts) > 1 else f"{count:,}"
        yield (
            f"inception_score of {what} image{'s' * (count > 1)} in {len(mean):,} classes is biased downward, the more "
            "the fewer the images: compare it only at equal counts, or add images"
        )


def divergence(p: Tensor, q: Tensor) -> float:
    """KL(p || q) of (K,) probabilities."""
    return (p * (p.clamp(min=1e-300).log() - q.log())).sum().item()
