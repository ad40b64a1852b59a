"""How much a score would vary between sample sets, estimated from random halves of one set."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import Metric
from ditexp.result import Deviations
from ditexp.terminal.notices import without_notices
from ditexp.values import Features, PerSample

VERSION = 2  # of how halves are drawn and recorded; part of a result's id, so older results are computed again


def deviations(
    metrics: Collection[Metric],
    fake: Features,
    real: Features | None,
    *,
    resamples: int,
    advance: Callable[[], None],
    units: Sequence[int] | None = None,
) -> dict[str, Deviations]:
    """The deviations of each score between random halves of the samples, see `resampled`.

    resamples: the number of halves; 0: none. advance: called after each half. units: the unit of each sample;
    samples of one unit are not independent; None: each sample is a unit. Metrics that need more than half of the
    samples are left out.
    """
    labels = None if fake.labels is None else fake.labels.cpu()
    design = Design.of(fake.count, labels=labels, units=units)
    smallest = min(map(len, design.halves(resamples)), default=0)
    scores = [metric.of_parts(fake, real) for metric in metrics if accepts(metric, smallest, real)]

    def score(rows: Tensor) -> dict[str, float]:
        part = fake.take(rows)
        return {name: value for score_of in scores for name, value in score_of(rows, part).items()}

    with without_notices():
        return resampled(score, design, resamples, advance=advance)


def deviations_per_sample(
    scores: Mapping[str, float | PerSample],
    *,
    resamples: int,
    labels: Tensor | None = None,
    units: Sequence[int] | None = None,
) -> dict[str, Deviations]:
    """The deviations of scores that are made of one value per sample, see `resampled`; other scores have none.

    labels: where they are balanced, every other half has the same number of samples of each label. units: as of
    `deviations`. Both are of at least as many samples as any score has values.
    """
    found: dict[str, Deviations] = {}
    for name, score in scores.items():
        if isinstance(score, PerSample):
            found |= deviations_of_score(name, score, resamples, labels=labels, units=units)
    return found


def deviations_of_score(
    name: str, score: PerSample, resamples: int, *, labels: Tensor | None, units: Sequence[int] | None
) -> dict[str, Deviations]:
    count = len(score.values)
    design = Design.of(
        count,
        labels=None if labels is None else labels[:count],
        units=None if units is None else units[:count],
    )
    return resampled(lambda rows: {name: score.of(rows)}, design, resamples)


def resampled(
    score: Callable[[Tensor], Mapping[str, float]],
    design: Design,
    resamples: int,
    *,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Deviations]:
    """The deviations of each score on random halves of the samples. score: rows -> scores by their names.

    The scores of random halves of N independent samples vary as much as the scores of sets of N new samples: drawing
    without replacement gives the variance sigma^2 (2 / N - 1 / N) = sigma^2 / N (Politis, Romano and Wolf 1999,
    Subsampling, section 2). `Design.scale` corrects this for odd numbers. Unlike in a bootstrap no sample occurs twice,
    so this also holds for distances to neighbours; and a bias that depends on N, such as FID's, is the same for all
    halves.

    If the samples are as good as the reference, FID is a square of errors and varies between halves up to 3^(1/2)
    times as much as between sets. The error of the reference is not included.

    All sets of one design get the same halves. So the spread of the difference between two sets' deviations, half by
    half, is the spread of the difference of their scores; it includes what they share by starting from the same noise.

    A score that is not finite on every half is left out.
    """
    values: dict[str, list[float]] = {}
    for rows in design.halves(resamples):
        for name, value in score(rows).items():
            values.setdefault(name, []).append(value)
        advance()
    return {
        name: Deviations(units=design.units, mean=rounded(fmean(each)), halves=design.deviations(each))
        for name, each in values.items()
        if len(each) > 1 and all(map(math.isfinite, each))
    }


def rounded(value: float) -> float:
    return float(f"{value:.9g}")


@dataclass(frozen=True)
class Design:
    """The units of samples, which are independent of each other, and the strata of units.

    members: (N,) int64, the unit of each sample, from 0. strata: (U,) int64, the stratum of each unit. Every sample set
    has the same number of units of each stratum, and so has every other half.
    """

    members: Tensor
    strata: Tensor

    @classmethod
    def of(cls, count: int, *, labels: Tensor | None = None, units: Sequence[int] | None = None) -> Design:
        """The design of `count` samples. The units of one label are a stratum if the label occurs more than once.

        All other units are one more stratum. Without labels, or if another seed would give another number of samples
        per label, all units are one stratum. A unit's label is the label of its first sample.
        """
        members, first = np.arange(count), np.arange(count)
        if units is not None:
            _, first, members = np.unique(np.asarray(units), return_index=True, return_inverse=True)
        strata = torch.zeros(len(first), dtype=torch.int64)
        if labels is not None and is_balanced(labels[torch.from_numpy(first)]):
            _, kinds, counts = labels[torch.from_numpy(first)].unique(return_inverse=True, return_counts=True)
            strata = torch.where(counts[kinds] > 1, kinds, len(counts))
        return cls(torch.from_numpy(members), strata)

    @property
    def units(self) -> int:
        return len(self.strata)

    def halves(self, number: int) -> Iterator[Tensor]:
        """Random halves of the samples as increasing rows; none if there are fewer than two units.

        A half has all samples of a unit or none. The extra unit of a stratum with an odd number is in every other half.
        """
        if self.units < 2:
            return
        draw = torch.Generator().manual_seed(0)
        for half in range(number):
            order = torch.randperm(self.units, generator=draw)
            order = order[self.strata[order].argsort(stable=True)]
            chosen = torch.zeros(self.units, dtype=torch.bool)
            chosen[order[half % 2 :: 2][: self.units // 2]] = True
            yield chosen[self.members].nonzero().squeeze(1)

    def deviations(self, values: Sequence[float]) -> list[float]:
        """The deviation of each half's value from the mean, scaled to the spread of values of whole new sets.

        Even and odd halves have a mean each, since only every other half has the same number of units of each stratum.
        """
        groups = 2 if len(values) >= 4 else 1
        means = [fmean(values[group::groups]) for group in range(groups)]
        correction = math.sqrt((len(values) - 1) / (len(values) - groups))  # for the second mean
        scales = [correction * self.scale(half) for half in range(2)]
        return [rounded(scales[i % 2] * (value - means[i % groups])) for i, value in enumerate(values)]

    def scale(self, half: int) -> float:
        """The spread of a new set's mean, relative to the spread of this half's mean, for strata of equal variance.

        The sum over k of n units, drawn without replacement from a stratum, has the variance sigma^2 k (n - k) / n.
        """
        sizes = self.strata.bincount()
        taken = self.strata.sort().values[half % 2 :: 2][: self.units // 2].bincount(minlength=len(sizes))
        within = (taken * (sizes - taken) / sizes.clamp(min=1)).sum().item()
        return self.units // 2 / math.sqrt(self.units * within)


def is_balanced(labels: Tensor) -> bool:
    """Whether labels occur equally often, up to 1, as they do under any seed of balanced labels."""
    counts = labels.unique(return_counts=True)[1]
    return bool(counts.max() - counts.min() <= 1)


def accepts(metric: Metric, count: int, real: Features | None) -> bool:
    """Whether `count` samples are enough for a metric."""
    try:
        metric.check(fake=count, real=real.count or None if real else None)
    except ValueError:
        return False
    return count > 1
