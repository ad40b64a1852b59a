"""Deviations between random halves of the samples, compared with deviations between new samples."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import stdev

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from ditexp.cli.command import register_with_hydra
from ditexp.cli.packaged import packaged
from ditexp.evaluate.uncertainty import Design, deviations, deviations_per_sample
from ditexp.metric.fid import FrechetDistance
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.report.tables.rows import Row
from ditexp.report.tables.significance import worse_than_best
from ditexp.result import Deviations, Result
from ditexp.run.cell import build
from ditexp.task.edit import Edit
from ditexp.task.generate import Generate
from ditexp.task.inpaint import Inpaint
from ditexp.task.interpolate import Interpolate
from ditexp.terminal.notices import notice
from ditexp.values import Features, PerSample, root_mean
from tests.helpers.refusals import refused

METRICS = (FrechetDistance(), InceptionScore(split_size=5000), PrecisionRecall())
CENTRES = 3 * torch.randn(10, 6, generator=torch.Generator().manual_seed(7))
SEEDS = 50


def samples(seed: int, count: int = 200, *, balanced: bool = True) -> Features:
    """Ten distant classes in six dimensions, with logits as a network would give them."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 10 if balanced else torch.randint(10, (count,), generator=draw)
    pool = CENTRES[labels] + torch.randn(count, 6, generator=draw)
    return Features(count=count, pool=pool, logits=-torch.cdist(pool, CENTRES), labels=labels)


REAL = samples(10_000, 500)


def moved(features: Features, shift: float) -> Features:
    """Nearly the same samples, as another solver would give them from the same noise."""
    pool = features.pool * (1 + shift) + shift
    return Features(count=len(pool), pool=pool, logits=-torch.cdist(pool, CENTRES), labels=features.labels)


def resampled(fake: Features, metrics=METRICS, resamples: int = 10, **options) -> dict[str, list[float]]:
    found = deviations(metrics, fake, REAL, resamples=resamples, advance=lambda: None, **options)
    return {name: each.halves for name, each in found.items()}


def halves(count: int, number: int, **design) -> Iterator[torch.Tensor]:
    return Design.of(count, **design).halves(number)


def resampled_fid(fake: Features) -> list[float]:
    return resampled(fake, [FrechetDistance()])["fid"]


def scores(fake: Features) -> dict[str, float]:
    return {name: value for metric in METRICS for name, value in metric(fake, REAL).items()}


def fid(fake: Features) -> float:
    return FrechetDistance()(fake, REAL)["fid"]


def root_mean_square(values) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


@pytest.mark.slow
@pytest.mark.parametrize("balanced", [True, False])
def test_halves_deviate_as_new_samples_do(balanced):
    """The deviation between 50 seeds has an error of 10 %; a third more or less is 3 to 5 of these errors."""
    sets = [moved(samples(seed, balanced=balanced), 0.4) for seed in range(SEEDS)]
    between, within = [scores(fake) for fake in sets], [resampled(fake) for fake in sets]
    for name in between[0]:
        ratio = root_mean_square([stdev(found[name]) for found in within]) / stdev(s[name] for s in between)
        assert 0.67 < ratio < 1.5, (name, ratio)


def test_halves_are_too_careful_about_samples_as_good_as_the_reference():
    """FID is then the square of an error e / N^(1/2) alone: twice as large in a half, it varies 3^(1/2) as much."""
    sets = [samples(seed) for seed in range(SEEDS)]
    within = root_mean_square([stdev(resampled_fid(fake)) for fake in sets])
    assert 1.1 < within / stdev(map(fid, sets)) < 3**0.5 * 1.5


def test_the_same_halves_estimate_the_difference_of_two_solvers_from_one_noise():
    pairs = [(moved(samples(seed), 0.2), moved(samples(seed), 0.22)) for seed in range(SEEDS)]
    values = [(fid(a), fid(b)) for a, b in pairs]
    found = [(resampled_fid(a), resampled_fid(b)) for a, b in pairs]
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


@pytest.mark.parametrize("count", [512, 1000])
@pytest.mark.parametrize("classes", [10, 170, 400, 512, 1000, None])
def test_halves_are_distinct_and_have_each_sample_about_half_of_the_time(classes, count):
    """This holds however often labels occur: among 512 samples of 400 labels, 112 labels occur twice."""
    labels = None if classes is None else torch.arange(count) % classes
    parts = list(halves(count, 200, labels=labels))
    assert len({tuple(part.tolist()) for part in parts}) == 200
    assert all(len(part) == count // 2 for part in parts)
    times = torch.cat(parts).bincount(minlength=count)
    assert times.min() > 100 - 35 and times.max() < 100 + 35  # 5 standard deviations
    together = torch.stack([torch.zeros(count).index_fill(0, part, 1) for part in parts])
    pairs = (together.T @ together).fill_diagonal_(50)
    assert pairs.max() <= 100 and pairs.mean() == pytest.approx(50, rel=0.01)  # no two samples always come together
    if classes is not None:
        whole, half = labels.bincount(), [labels[part].bincount(minlength=int(labels.max()) + 1) for part in parts]
        assert all(((whole - 2 * each).abs() <= 1).all() for each in half)


@pytest.mark.parametrize(
    "labels", [torch.arange(101), torch.arange(101) % 10, torch.zeros(101, dtype=torch.int64), None]
)
def test_of_an_odd_number_of_samples_one_more_is_left_out(labels):
    parts = list(halves(101, 400, labels=labels))
    assert {len(part) for part in parts} == {50}
    times = torch.cat(parts).bincount(minlength=101)
    assert times.min() > 198 - 50 and times.max() < 198 + 50


@pytest.mark.parametrize("classes", [10, 170, 400, 512, None])
def test_of_two_equal_cells_one_in_twenty_counts_as_worse(classes):
    """20 of 400 pairs are expected, with a standard deviation of 4.4; the cells share only their labels."""
    count, draw = 512, torch.Generator().manual_seed(1)
    labels = torch.arange(count) % (classes or 1)
    offsets = torch.randn(classes or 1, generator=draw)[labels]  # labels differ, as much as samples of one do
    design = Design.of(count, labels=labels if classes else None)
    parts = torch.stack(list(design.halves(40)))
    wrong = 0
    for _ in range(400):
        pair = offsets + torch.randn(2, count, generator=draw)
        rows = [row_of(values.mean().item(), design.deviations(values[parts].mean(1).tolist())) for values in pair]
        best = min((0, 1), key=lambda row: rows[row].metrics["x"])
        wrong += worse_than_best(rows, best, "x")[1 - best]
    assert 7 <= wrong <= 34


def row_of(value: float, deviations: list[float]) -> Row:
    """A row of a table with one seed."""
    noise = {"x": Deviations(units=512, mean=value, halves=deviations)}
    result = Result(id="0", status="done", settings={"seed": 0}, metrics={"x": value}, deviations=noise)
    return Row(members=[result], settings=result.settings, metrics=result.metrics)


def test_samples_of_one_unit_are_drawn_together():
    """The units are 47 paths, the last with 6 frames; then 40 images that come again."""
    units = [index // 11 for index in range(512)]
    for part in halves(512, 20, units=units):
        drawn = {units[row] for row in part.tolist()}
        assert len(drawn) == 23 and len(part) == sum(unit in drawn for unit in units)
    again = [index % 40 for index in range(100)]
    for part in halves(100, 20, units=again, labels=torch.tensor(again) % 10):
        assert len(part) in range(40, 61) and {row % 40 for row in part.tolist()} == {r for r in range(40) if r in part}
        assert torch.tensor(sorted({again[row] for row in part.tolist()})).remainder(10).bincount().tolist() == [2] * 10
    assert list(halves(11, 5, units=[0] * 11)) == list(halves(1, 5)) == []


def test_what_frames_of_a_path_share_is_not_taken_for_more_samples():
    """The 11 frames of each of 40 paths share half of their variance: the mean deviates as for 40 samples, not 440."""
    draw = torch.Generator().manual_seed(0)
    units = [index // 11 for index in range(440)]
    means, found, naive = [], [], []
    for _ in range(200):
        values = torch.randn(40, 1, generator=draw).expand(-1, 11) + torch.randn(40, 11, generator=draw)
        score = {"x": PerSample(values.flatten().double())}
        means.append(score["x"].score)
        noise = deviations_per_sample(score, resamples=40, units=units)["x"]
        assert noise.units == 40
        found.append(stdev(noise.halves))
        naive.append(stdev(deviations_per_sample(score, resamples=40)["x"].halves))
    assert root_mean_square(found) / stdev(means) == pytest.approx(1, abs=0.15)
    assert root_mean_square(naive) / stdev(means) < 0.5


def test_tasks_say_which_samples_belong_together():
    class Five:
        def __len__(self):
            return 5

    assert Generate().units(range(7)) is None
    assert Interpolate(frames=3).units(range(7)) == [0, 0, 0, 1, 1, 1, 2]
    assert Inpaint(data=Five()).units(range(7)) == [0, 1, 2, 3, 4, 0, 1]
    assert Edit(data=Five(), source=None).units(range(7)) == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.parametrize("classes", [10, 40, 67, 200, 256])
def test_what_labels_share_is_no_noise(classes):
    """Labels differ ten times as much as samples of one label, but every set has the same labels: means vary little.

    67 labels occur 3 times, but one twice; 10 labels occur 20 times. 256 labels occur at most once, so their spread
    cannot be separated from the samples' spread.
    """
    count, draw = 200, torch.Generator().manual_seed(0)
    labels = torch.arange(count) % classes
    offsets = 10 * torch.randn(count, generator=draw)[labels]
    found = []
    for _ in range(30):
        score = {"x": PerSample((offsets + torch.randn(count, generator=draw)).double())}
        found.append(stdev(deviations_per_sample(score, resamples=40, labels=labels)["x"].halves))
    ratio = root_mean_square(found) * count**0.5
    assert ratio == pytest.approx(1, abs=0.1) if classes < count else ratio > 8


@pytest.mark.parametrize("count", [3, 7, 400])
def test_scores_of_single_samples_have_deviations(count):
    """The deviation of a mean of independent values is its standard error, also for odd numbers."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(count, generator=draw).double()
    found = deviations_per_sample({"x": PerSample(values)}, resamples=4000)["x"]
    assert stdev(found.halves) == pytest.approx(values.std().item() / count**0.5, rel=0.05)
    squares = deviations_per_sample({"x": PerSample(values**2 + 9, root_mean)}, resamples=4000)["x"]
    mean = (values**2 + 9).mean().item()
    assert squares.mean == pytest.approx(mean**0.5, rel=0.02)
    linear = (values**2).std().item() / count**0.5 / (2 * mean**0.5)
    assert stdev(squares.halves) == pytest.approx(linear, rel=0.1)


def test_samples_without_a_part_in_a_score_are_left_out():
    values = torch.tensor([1.0, math.nan, 3.0, 5.0], dtype=torch.float64)
    assert PerSample(values).score == 3 and math.isnan(PerSample(values).of(torch.tensor([1])))
    two = PerSample(values[:, None].expand(-1, 2), lambda v: v.sum())
    assert two.score == 18
    scores = {"float": 0.5, "never": PerSample(values * math.nan), "often": PerSample(values.repeat(50))}
    found = deviations_per_sample(scores, resamples=20)
    assert found.keys() == {"often"}
    assert deviations_per_sample(scores, resamples=0) == {}


def test_scores_that_halves_cannot_have_are_left_out(caplog):
    assert resampled(samples(0), resamples=0) == {}
    few = resampled(samples(0, 6), [PrecisionRecall(k=3), FrechetDistance()])
    assert few.keys() == {"fid"}  # three have no third neighbour among themselves
    assert not caplog.records  # though FID of three images in six dimensions is biased
    FrechetDistance()(samples(0, 5), REAL)
    assert "5 images with 6 features" in caplog.text
    notice("after all that, notices are given again")
    assert "given again" in caplog.text


@dataclass(frozen=True)
class Bare:
    """A task that doesn't say which samples belong together."""

    def __call__(self, sampler, indices):
        raise NotImplementedError


def test_a_task_that_does_not_say_which_samples_belong_together_is_refused_before_any_work(tmp_path):
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(packaged("conf"))):
        cfg = compose("config", overrides=["num_samples=32", f"outputs={tmp_path}"])
    OmegaConf.set_struct(cfg, False)
    cfg.task = {"_target_": f"{__name__}.Bare"}
    with refused(["Bare is not a task", "ditexp.task.base.Task"]):
        build(cfg)


def test_results_of_halves_drawn_in_another_way_are_scored_again_and_no_set_is_made_anew(tmp_path, monkeypatch):
    register_with_hydra()
    with initialize_config_dir(version_base="1.3", config_dir=str(packaged("conf"))):
        cfg = compose("config", overrides=["num_samples=32", f"outputs={tmp_path}"])
        without = compose("config", overrides=["num_samples=32", f"outputs={tmp_path}", "resamples=0"])
    now, now_without = build(cfg), build(without)
    monkeypatch.setattr("ditexp.evaluate.uncertainty.VERSION", 1)
    before, before_without = build(cfg), build(without)
    assert before.id != now.id and before.store.id == now.store.id
    assert before_without.id == now_without.id
