"""How far a score would be off with other samples, seen on random halves of those that there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from ditexp.metric.base import Metric
from ditexp.terminal.notices import without_notices
from ditexp.values import Features, PerSample

VERSION = 2  # of how halves are drawn and recorded; part of a result's id, so that older ones are scored again


def deviations(
    metrics: Collection[Metric],
    fake: Features,
    real: Features | None,
    *,
    resamples: int,
    advance: Callable[[], None],
    units: Sequence[int] | None = None,
) -> dict[str, dict]:
    """By the scores' names, what random halves of the samples tell of their noise, see `resampled`.

    resamples: how many halves; 0: none. advance: called after each. units: see `halves`. Metrics that refuse half of
    the samples are left out.
    """
    design = Design.of(fake.count, labels=fake.labels, units=units)
    least = min(map(len, design.halves(resamples)), default=0)
    able = [metric for metric in metrics if takes(metric, least, real)]

    def score(rows: Tensor) -> dict[str, float]:
        part = fake.take(rows)
        return {name: value for metric in able for name, value in metric(part, real).items()}

    with without_notices():
        return resampled(score, design, resamples, advance=advance)


def deviations_per_sample(
    scores: Mapping[str, float | PerSample],
    *,
    resamples: int,
    labels: Tensor | None = None,
    units: Sequence[int] | None = None,
) -> dict[str, dict]:
    """The same of scores that are made of the samples' own values; of others nothing is known.

    labels, units: of as many samples as the longest values, or more.
    """
    found = {}
    for name, score in scores.items():
        if not isinstance(score, PerSample):
            continue
        count = len(score.values)
        ours = (None if given is None else given[:count] for given in (labels, units))
        design = Design.of(count, **dict(zip(("labels", "units"), ours)))
        found |= resampled(lambda rows: {name: score.of(rows)}, design, resamples)  # noqa: B023
    return found


def resampled(
    score: Callable[[Tensor], Mapping[str, float]],
    design: Design,
    resamples: int,
    *,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, dict]:
    """By the scores' names {"units", "mean", "halves"}: how many units there are; of each half the deviation.

    Of N independent samples, scores of halves drawn without replacement differ from each other's mean as much as scores
    of N new samples would from theirs: sigma^2 (2 / N - 1 / N) is sigma^2 / N (Politis, Romano and Wolf 1999,
    Subsampling, section 2); what odd numbers change of that, `Design.scale` makes up for. No sample is there twice, as
    a bootstrap would have it, so that this holds for neighbours' distances, too; and a bias that depends on N, such as
    FID's, is the same for all halves. What depends on squares of errors, as FID does where samples are as good as the
    reference, varies between halves up to 3^(1/2) times as much as it would between sets. The reference's own error is
    left out.

    The halves are the same for all sets of one design. So the difference of two sets' deviations, one by one, has the
    spread of the difference of their scores, what they share by starting from the same noise included.

    A score that is not finite on every half is left out.
    """
    values: dict[str, list[float]] = {}
    for rows in design.halves(resamples):
        for name, value in score(rows).items():
            values.setdefault(name, []).append(value)
        advance()
    return {
        name: {"units": design.units, "mean": rounded(fmean(each)), "halves": design.deviations(each)}
        for name, each in values.items()
        if len(each) > 1 and all(map(math.isfinite, each))
    }


def rounded(value: float) -> float:
    return float(f"{value:.9g}")


@dataclass(frozen=True)
class Design:
    """How samples fall into units, which are independent of each other, and units into strata.

    members: (N,) int64, the unit of each sample, from 0. strata: (U,) int64, the stratum of each unit. Every set has as
    many units of each stratum, so that every other half has, too.
    """

    members: Tensor
    strata: Tensor

    @classmethod
    def of(cls, count: int, *, labels: Tensor | None = None, units: Sequence[int] | None = None) -> Design:
        """A stratum is a label that occurs more than once; units whose label does not, are one together.

        Without labels, or where another seed would give them in other numbers, all units are one stratum. The label of
        a unit is that of its first sample.
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
        """Random halves of the samples, all or none of a unit, as rising rows; nothing of fewer than two units.

        Where a stratum has an odd number of units, the one more is in every other half.
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
        """Of the halves' values, one each, from their mean, with the spread that values of whole new sets would have.

        Every other half has the same number of units of each stratum, so that even and odd halves have a mean each.
        """
        groups = 2 if len(values) >= 4 else 1
        means = [fmean(values[group::groups]) for group in range(groups)]
        lost = math.sqrt((len(values) - 1) / (len(values) - groups))  # by the second mean, of degrees of freedom
        scales = [lost * self.scale(half) for half in range(2)]
        return [rounded(scales[i % 2] * (value - means[i % groups])) for i, value in enumerate(values)]

    def scale(self, half: int) -> float:
        """How many times as much as this half's a new set's mean would vary, if strata vary alike.

        k of n units of a stratum, drawn without replacement, have a sum whose variance is sigma^2 k (n - k) / n.
        """
        sizes = self.strata.bincount()
        taken = self.strata.sort().values[half % 2 :: 2][: self.units // 2].bincount(minlength=len(sizes))
        within = (taken * (sizes - taken) / sizes.clamp(min=1)).sum().item()
        return self.units // 2 / math.sqrt(self.units * within)


def halves(
    count: int, number: int, *, labels: Tensor | None = None, units: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """`number` random halves of `count` samples, rising int64 rows; nothing where there are fewer than two units.

    labels: (count,); where they are balanced, every other half has as many samples of each label. units: the unit of
    each sample; samples of one unit are not independent, so that a half has all of them or none. None: each is one.
    """
    return Design.of(count, labels=labels, units=units).halves(number)


def is_balanced(labels: Tensor) -> bool:
    """Whether another seed would give each label as many samples, too."""
    counts = labels.unique(return_counts=True)[1]
    return bool(counts.max() - counts.min() <= 1)


def takes(metric: Metric, count: int, real: Features | None) -> bool:
    try:
        metric.check(fake=count, real=real.count or None if real else None)
    except ValueError:
        return False
    return count > 1
