"""How far a score would be off with other samples, seen on random halves of those that there are."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from statistics import fmean

import numpy as np
import torch
from torch import Tensor

from ditexp.core import Features, Metric, PerSample, without_notices

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
    parts = list(halves(fake.count, resamples, labels=fake.labels, units=units))
    least = min(map(len, parts), default=0)
    able = [metric for metric in metrics if takes(metric, least, real)]

    def score(rows: Tensor) -> dict[str, float]:
        part = fake.take(rows)
        return {name: value for metric in able for name, value in metric(part, real).items()}

    with without_notices():
        return resampled(score, parts, units=number_of(units, fake.count), advance=advance)


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
        ours = None if units is None else units[:count]
        parts = list(halves(count, resamples, labels=None if labels is None else labels[:count], units=ours))
        found |= resampled(lambda rows: {name: score.of(rows)}, parts, units=number_of(ours, count))  # noqa: B023
    return found


def resampled(
    score: Callable[[Tensor], Mapping[str, float]],
    parts: Sequence[Tensor],
    *,
    units: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, dict]:
    """By the scores' names {"units", "mean", "halves"}: the score of each part, as deviation from the parts' mean.

    Of N independent samples, scores of halves drawn without replacement differ from each other's mean as much as scores
    of N new samples would from theirs: sigma^2 (2 / N - 1 / N) is sigma^2 / N (Politis, Romano and Wolf 1999,
    Subsampling, section 2); for odd N the deviations are multiplied by what makes it so. No sample is there twice, as a
    bootstrap would have it, so that this holds for neighbours' distances, too; and a bias that depends on N, such as
    FID's, is the same for all halves. What depends on squares of errors, as FID does where samples are as good as the
    reference, varies between halves up to 3^(1/2) times as much as it would between sets. The reference's own error is
    left out.

    The halves are the same for all sets of as many samples, labels and units. So the difference of two sets'
    deviations, one by one, has the spread of the difference of their scores, what they share by starting from the same
    noise included.

    A score that is not finite on every part is left out. units: how many independent units the samples are.
    """
    values: dict[str, list[float]] = {}
    for rows in parts:
        for name, value in score(rows).items():
            values.setdefault(name, []).append(value)
        advance()
    scale = math.sqrt((units // 2) / (units - units // 2))
    found = {}
    for name, each in values.items():
        if len(each) > 1 and all(map(math.isfinite, each)):
            mean = fmean(each)
            deviating = [float(f"{scale * (value - mean):.9g}") for value in each]
            found[name] = {"units": units, "mean": float(f"{mean:.9g}"), "halves": deviating}
    return found


def halves(
    count: int, number: int, *, labels: Tensor | None = None, units: Sequence[int] | None = None
) -> Iterator[Tensor]:
    """`number` random halves of `count` samples, rising int64 rows; nothing where there are fewer than two units.

    labels: (count,); where they are balanced, as many samples of each label are in all halves, to within one. units:
    the unit of each sample; samples of one unit are not independent, so that a half has all of them or none. None: each
    is one. The label of a unit is that of its first sample.
    """
    members, first = np.arange(count), np.arange(count)
    if units is not None:
        _, first, members = np.unique(np.asarray(units), return_index=True, return_inverse=True)
    if len(first) < 2:
        return
    kinds = None
    if labels is not None and is_balanced(labels[torch.from_numpy(first)]):
        kinds = labels[torch.from_numpy(first)].unique(return_inverse=True)[1]
    draw = torch.Generator().manual_seed(0)
    for _ in range(number):
        order = torch.randperm(len(first), generator=draw)
        if kinds is not None:
            # Labels in another order for each half: in a fixed one, units whose label occurs once would always be the
            # same ones.
            ranks = torch.randperm(int(kinds.max()) + 1, generator=draw)
            order = order[ranks[kinds[order]].argsort(stable=True)]
        start = int(torch.randint(2, (), generator=draw))
        chosen = torch.zeros(len(first), dtype=torch.bool)
        chosen[order[start::2][: len(first) // 2]] = True
        yield chosen[torch.from_numpy(members)].nonzero().squeeze(1)


def number_of(units: Sequence[int] | None, count: int) -> int:
    return count if units is None else len(set(units))


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
