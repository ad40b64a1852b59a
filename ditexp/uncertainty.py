"""How far a score would be off with other samples: seen on random halves of those that there are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
from torch import Tensor

from ditexp.core import Features, Metric, without_notices

OUTPUTS = ("pool", "logits", "spatial", "labels")


def deviations(
    metrics: Collection[Metric], fake: Features, real: Features | None, *, resamples: int, advance: Callable[[], None]
) -> dict[str, list[float]]:
    """By the scores' names, how far each random half of the samples is from the mean of such halves.

    Of N samples, scores of halves drawn without replacement differ from each other's mean as much as scores of N new
    samples would from theirs: sigma^2 (2 / N - 1 / N) is sigma^2 / N (Politis, Romano and Wolf 1999, Subsampling,
    section 2). No sample is there twice, as a bootstrap would have it, so that this holds for neighbours' distances,
    too; and a bias that depends on N, such as FID's, is the same for all halves. What depends on squares of errors,
    as FID does where samples are as good as the reference, is told to vary up to 3^(1/2) times as much as it does. The
    reference's own error is left out.

    The halves are the same for all sets of as many samples. So the difference of two sets' deviations, one by one, has
    the spread of the difference of their scores, what they share by starting from the same noise included.

    resamples: how many halves; 0: none. advance: told of each. Metrics that refuse half of the samples are left out.
    """
    able = [metric for metric in metrics if takes(metric, fake.count // 2, real)] if resamples else []
    values: dict[str, list[float]] = {}
    with without_notices():
        for rows in halves(fake.count, resamples, labels=fake.labels):
            part = {name: x[rows] for name in OUTPUTS if (x := getattr(fake, name)) is not None}
            for metric in able:
                for name, value in metric(Features(count=len(rows), **part), real).items():
                    values.setdefault(name, []).append(value)
            advance()
    return {name: [float(f"{v - sum(found) / len(found):.6g}") for v in found] for name, found in values.items()}


def halves(count: int, number: int, *, labels: Tensor | None) -> Iterator[Tensor]:
    """`number` random halves of `count` samples, (count // 2,) int64; of balanced labels, about half of each."""
    draw = torch.Generator().manual_seed(0)
    for _ in range(number):
        order = torch.randperm(count, generator=draw)
        if labels is not None and is_balanced(labels):
            order = order[labels[order].argsort(stable=True)]
        yield order[1::2].sort().values


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
