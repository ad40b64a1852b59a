"""What random halves of the samples tell, beside what new samples tell."""

from __future__ import annotations

from statistics import stdev

import numpy as np
import pytest
import torch

from ditexp.core import Features, notice
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.uncertainty import deviations, halves

METRICS = (FrechetDistance(), InceptionScore(split_size=5000), PrecisionRecall())
CENTRES = 3 * torch.randn(10, 6, generator=torch.Generator().manual_seed(7))
SEEDS = 50


def samples(seed: int, count: int = 200, *, balanced: bool = True) -> Features:
    """Ten classes, far apart, in six dimensions; logits as a network would have them."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10 if balanced else torch.randint(10, (count,), generator=draw)
    pool = CENTRES[labels] + torch.randn(count, 6, generator=draw)
    return Features(count=count, pool=pool, logits=-torch.cdist(pool, CENTRES), labels=labels)


REAL = samples(10_000, 500)


def moved(features: Features, shift: float) -> Features:
    """What another solver would make of the same noise: nearly the same."""
    pool = features.pool * (1 + shift) + shift
    return Features(count=len(pool), pool=pool, logits=-torch.cdist(pool, CENTRES), labels=features.labels)


def told(fake: Features, metrics=METRICS, resamples: int = 10) -> dict[str, list[float]]:
    return deviations(metrics, fake, REAL, resamples=resamples, advance=lambda: None)


def fid_told(fake: Features) -> list[float]:
    return told(fake, [FrechetDistance()])["fid"]


def scores(fake: Features) -> dict[str, float]:
    return {name: value for metric in METRICS for name, value in metric(fake, REAL).items()}


def fid(fake: Features) -> float:
    return FrechetDistance()(fake, REAL)["fid"]


def root_mean_square(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.parametrize("balanced", [True, False])
def test_halves_deviate_as_new_samples_do(balanced):
    """The deviation between 50 seeds is itself known to 10 %, so that a third more or less is 3 to 5 of these."""
    sets = [moved(samples(seed, balanced=balanced), 0.2) for seed in range(SEEDS)]
    between, within = [scores(fake) for fake in sets], [told(fake) for fake in sets]
    for name in between[0]:
        ratio = root_mean_square([stdev(found[name]) for found in within]) / stdev(s[name] for s in between)
        assert 0.67 < ratio < 1.5, (name, ratio)


def test_halves_are_too_careful_about_samples_as_good_as_the_reference():
    """FID is then the square of an error e / N^(1/2) alone: twice as large in a half, it varies 3^(1/2) as much."""
    sets = [samples(seed) for seed in range(SEEDS)]
    within = root_mean_square([stdev(fid_told(fake)) for fake in sets])
    assert 1.1 < within / stdev(map(fid, sets)) < 3**0.5 * 1.5


def test_the_difference_of_two_solvers_from_one_noise_is_told_by_the_same_halves():
    pairs = [(moved(samples(seed), 0.2), moved(samples(seed), 0.22)) for seed in range(SEEDS)]
    values = [(fid(a), fid(b)) for a, b in pairs]
    found = [(fid_told(a), fid_told(b)) for a, b in pairs]
    differences = stdev(b - a for a, b in values)
    estimate = root_mean_square([stdev(y - x for x, y in zip(a, b)) for a, b in found])
    assert 0.67 < estimate / differences < 1.5
    assert differences < stdev(a for a, _ in values) / 2  # or there would be little to gain by pairing


def test_halves_are_halves_and_the_same_for_all_sets_of_as_many():
    parts = list(halves(101, 5, labels=None))
    assert all(len(set(part.tolist())) == 50 and part.max() < 101 for part in parts)
    assert len({tuple(part.tolist()) for part in parts}) == 5
    assert all(torch.equal(a, b) for a, b in zip(parts, halves(101, 5, labels=None)))
    labels = torch.arange(100) % 10
    for part in halves(100, 5, labels=labels):
        assert labels[part].bincount().tolist() == [5] * 10
    uneven = torch.randint(10, (100,), generator=torch.Generator().manual_seed(0))
    assert len({tuple(uneven[part].bincount(minlength=10).tolist()) for part in halves(100, 5, labels=uneven)}) > 1


def test_what_halves_cannot_tell_is_left_out(caplog):
    assert told(samples(0), resamples=0) == {}
    few = told(samples(0, 6), [PrecisionRecall(k=3), FrechetDistance()])
    assert few.keys() == {"fid"}  # three have no third neighbour among themselves
    assert not caplog.records  # FID of three images in six dimensions would tell of its bias
    FrechetDistance()(samples(0, 5), REAL)
    assert "5 images with 6 features" in caplog.text
    notice("after all that, notices are given again")
    assert "given again" in caplog.text
