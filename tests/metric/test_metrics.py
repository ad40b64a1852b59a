import itertools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from scipy.linalg import svdvals
from sklearn.datasets import load_digits

from ditexp.metric import base, manifold, parts
from ditexp.metric import fid as fid_module
from ditexp.metric.density_coverage import DensityCoverage
from ditexp.metric.fid import FrechetDistance, gaussians, mean_and_covariance
from ditexp.metric.fid_infinity import FrechetInfinity
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.kid import KernelDistance
from ditexp.metric.precision_recall import PrecisionRecall
from ditexp.metric.trajectory import Trajectory
from ditexp.solver.dopri5 import Dopri5
from ditexp.values import Features, Gaussian
from tests.helpers.refusals import refused
from tests.helpers.scipy_sqrtm import sqrtm_with_disp

EPS = np.finfo(np.float64).eps


def features(pool, logits=None) -> Features:
    pool = torch.as_tensor(np.asarray(pool), dtype=torch.float32)
    return Features(count=len(pool), pool=pool, logits=logits)


def statistics_only(features: Features) -> Features:
    return Features(count=0, gaussians={"pool": mean_and_covariance(features.pool)})


def gaussian(count: int, dimensions: int, seed: int, *, shift: float = 0.0) -> Features:
    """Correlated features with a mean far from 0, as networks give them."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    return features(torch.randn(count, dimensions, generator=generator) @ mixing + 5 + shift)


def digits(count: int, start: int = 0) -> np.ndarray:
    return load_digits().data[start : start + count]


def in_float64(features: Features) -> np.ndarray:
    return features.pool.double().numpy()


def numpy_statistics(features: Features) -> tuple[np.ndarray, np.ndarray]:
    pool = in_float64(features)
    return pool.mean(0), np.cov(pool, rowvar=False)


# ---- Gaussians and Fréchet distances

AWKWARD = {
    "correlated": in_float64(gaussian(2500, 16, seed=0)),
    "large means": np.random.default_rng(1).normal(size=(1500, 8)) + 10.0 ** np.arange(8),
    "the first block elsewhere": np.vstack(
        [np.zeros((1024, 4)), 1e4 + np.random.default_rng(2).normal(size=(9000, 4))]
    ),
    "two images": digits(2),
}


@pytest.mark.parametrize("name", AWKWARD)
def test_mean_and_covariance_are_numpys(name):
    fake = features(AWKWARD[name])
    mean, covariance = numpy_statistics(fake)
    ours = mean_and_covariance(fake.pool)
    deviation = np.sqrt(covariance.diagonal())
    # A sum of N terms errs by N eps of their sizes at most, which the shift may raise by the number of blocks.
    worst = fake.count * EPS * max(1, fake.count / 1024)
    assert ours.count == fake.count
    np.testing.assert_array_less(np.abs(ours.mean.numpy() - mean), worst * (np.abs(mean) + deviation) + 1e-300)
    np.testing.assert_array_less(
        np.abs(ours.covariance.numpy() - covariance), worst * np.outer(deviation, deviation) + 1e-300
    )
    assert torch.equal(ours.covariance, ours.covariance.T)


def test_a_constant_feature_has_no_variance_at_all():
    fitted = mean_and_covariance(torch.full((1300, 3), 0.1))
    assert torch.equal(fitted.mean, torch.full((3,), 0.1).double()) and not fitted.covariance.any()


def test_gaussians_of_growing_subsets_are_those_of_each(monkeypatch):
    monkeypatch.setattr(fid_module, "BLOCK_SIZE", 64)
    x, rows = gaussian(400, 8, seed=0).pool, torch.randperm(400, generator=torch.Generator().manual_seed(1))
    for fitted, count in zip(gaussians(x, rows, [2, 64, 65, 300]), [2, 64, 65, 300], strict=True):
        alone = mean_and_covariance(x[rows[:count]])
        torch.testing.assert_close(fitted.mean, alone.mean, rtol=1e-12, atol=0)
        torch.testing.assert_close(fitted.covariance, alone.covariance, rtol=1e-9, atol=1e-12)


def test_fid_is_pytorch_fids_at_full_rank():
    fake, real = gaussian(500, 64, seed=0), gaussian(700, 64, seed=1, shift=0.3)
    with sqrtm_with_disp():
        expected = calculate_frechet_distance(*numpy_statistics(fake), *numpy_statistics(real))
    for a in (fake, statistics_only(fake)):
        for b in (real, statistics_only(real)):
            assert FrechetDistance()(a, b)["fid"] == pytest.approx(expected, rel=1e-9)


def exact_fid(fake: Features, real: Features) -> float:
    """From the features themselves, by S = R^T R with R of a QR decomposition: without square roots of eigenvalues."""
    x, y = in_float64(fake), in_float64(real)
    factors = [np.linalg.qr((z - z.mean(0)) / np.sqrt(len(z) - 1), mode="r") for z in (x, y)]
    spread = sum(np.square(factor).sum() for factor in factors)
    return np.square(x.mean(0) - y.mean(0)).sum() + spread - 2 * svdvals(factors[0] @ factors[1].T).sum()


rng = np.random.default_rng(0)
BASE, BASE2 = rng.normal(size=(600, 48)), rng.normal(size=(500, 48)) * 1.1 + 0.1
COPIED = np.hstack([BASE2[:, :36], 2 * BASE2[:, :12]])
DEAD = np.where(np.arange(48) % 5 == 0, 0, BASE)
STEEP = np.linalg.qr(rng.normal(size=(48, 48)))[0] * np.logspace(0, -5, 48)[:, None]
SINGULAR = {
    "20 and 30 images": (BASE[:20], BASE2[:30]),
    "20 and 400": (BASE[:20], BASE2[:400]),
    "400 and 20": (BASE[:400], BASE2[:20]),
    "as many as features": (BASE[:48], BASE2[:49]),
    "one more": (BASE[:49], BASE2[:49]),
    "two images": (BASE[:2], BASE2[:2]),
    "dead features": (DEAD, BASE2),
    "dead features in the reference": (BASE2, DEAD),
    "dead features in both": (DEAD, 1.1 * DEAD[100:]),
    "copied features": (COPIED, BASE),
    "copied features in the reference": (BASE, COPIED),
    "copied features in both": (COPIED, 1.1 * COPIED[100:]),
    "variances that fall by ten orders": (BASE @ STEEP, BASE2 @ STEEP),
    "far from 0": (BASE[:20] + 1000, BASE2[:30] + 1001),
    "digits, with pixels that never change": (digits(800), digits(800, start=800)),
}


@pytest.mark.parametrize("name", SINGULAR)
def test_fid_is_exact_for_singular_covariances(name):
    fake, real = map(features, SINGULAR[name])
    expected = exact_fid(fake, real)
    for a in (fake, statistics_only(fake)):
        for b in (real, statistics_only(real)):
            assert FrechetDistance()(a, b)["fid"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("count", [40, 300])
def test_fid_of_a_set_and_itself_is_zero(count):
    fake = gaussian(count, 64, seed=0)
    scale = numpy_statistics(fake)[1].trace()
    assert FrechetDistance()(fake, fake)["fid"] == pytest.approx(0, abs=1e-12 * scale)
    assert FrechetDistance()(fake, statistics_only(fake))["fid"] == pytest.approx(0, abs=1e-12 * scale)


def test_fid_of_constant_images_is_what_the_means_and_the_other_variances_leave():
    fake, real = features(np.full((30, 64), 3.0)), features(digits(100))
    mean, covariance = numpy_statistics(real)
    expected = np.square(3 - mean).sum() + covariance.trace()
    assert FrechetDistance()(fake, real)["fid"] == pytest.approx(expected, rel=1e-12)
    assert FrechetDistance()(fake, fake)["fid"] == 0


def test_statistics_that_are_known_are_taken_as_they_are():
    fake, real = gaussian(100, 8, seed=0), gaussian(90, 8, seed=1)
    known = Gaussian(torch.zeros(8).double(), torch.eye(8).double())  # as from a file without a count
    mean, covariance = numpy_statistics(fake)
    expected = np.square(mean).sum() + covariance.trace() + 8 - 2 * np.sqrt(np.linalg.eigvalsh(covariance)).sum()
    assert FrechetDistance()(fake, replace(real, gaussians={"pool": known}))["fid"] == pytest.approx(expected, rel=1e-9)
    assert FrechetDistance()(fake, Features(count=0, gaussians={"pool": known}))["fid"] == pytest.approx(expected)


def test_sfid_is_the_same_of_spatial_features():
    fake, real = gaussian(100, 8, seed=0), gaussian(90, 8, seed=1)
    spatial = [Features(count=f.count, spatial=f.pool) for f in (fake, real)]
    sfid = FrechetDistance(uses="spatial", name="sfid")
    assert sfid(*spatial) == {"sfid": FrechetDistance()(fake, real)["fid"]}


def test_notices_say_that_few_images_bias_fid(caplog):
    FrechetDistance()(gaussian(31, 64, seed=0), gaussian(700, 64, seed=1))
    FrechetDistance()(gaussian(80, 64, seed=0), gaussian(90, 64, seed=1))
    FrechetInfinity()(gaussian(300, 37, seed=0), gaussian(90, 37, seed=1))
    first, second = (record.getMessage() for record in caplog.records)
    assert "fid of 31 images with 64 features is biased upward" in first
    assert "fid_infinity of 300 samples starts from subsets of fewer than 37, the number of features" in second


# ---- FID of infinitely many samples


def standard_normal(count: int, dimensions: int, seed: int, *, shift: float = 0.0) -> Features:
    return features(torch.randn(count, dimensions, generator=torch.Generator().manual_seed(seed)) + shift)


def population(dimensions: int) -> Features:
    known = Gaussian(torch.zeros(dimensions).double(), torch.eye(dimensions).double())
    return Features(count=0, gaussians={"pool": known})


def test_fid_infinity_is_the_line_through_fids_of_subsets():
    fake, real = gaussian(900, 16, seed=0), gaussian(500, 16, seed=1)
    order = torch.randperm(900, generator=torch.Generator().manual_seed(3))
    sizes = np.linspace(90, 900, 15).astype(int)
    fids = [FrechetDistance()(features(fake.pool[order[:size]]), real)["fid"] for size in sizes]
    design = np.stack([1 / sizes, np.ones(15)], axis=1)
    expected = np.linalg.lstsq(design, np.array(fids), rcond=None)[0][1]
    assert FrechetInfinity(seed=3)(fake, real) == {"fid_infinity": pytest.approx(expected, rel=1e-9)}


def test_fid_infinity_takes_away_most_of_the_bias():
    """The distribution is the reference's, shifted by 0.1 in 64 dimensions, so FID is 0.64."""
    errors = {"fid": [], "fid_infinity": []}
    for seed in range(8):
        fake = standard_normal(2000, 64, seed, shift=0.1)
        for metric in (FrechetDistance(), FrechetInfinity()):
            for name, value in metric(fake, population(64)).items():
                errors[name].append(value - 0.64)
    assert min(errors["fid"]) > 0
    assert abs(np.mean(errors["fid_infinity"])) < np.mean(errors["fid"]) / 2


# ---- Inception Score


def inception_score(logits: torch.Tensor, bounds: list[int]) -> list[float]:
    """The definition of Salimans et al. 2016 for each of the consecutive parts."""
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    parts = [p[begin:end] for begin, end in itertools.pairwise(bounds)]
    return [np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in parts]


def random_logits(count: int) -> torch.Tensor:
    return 4 * torch.randn(count, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("seed", [None, 2020])
@pytest.mark.parametrize("count", [100, 103, 10])
def test_inception_score_in_splits_is_torch_fidelitys(count, seed):
    logits = random_logits(count)
    order = np.arange(count) if seed is None else np.random.RandomState(seed).permutation(count)
    scores = inception_score(logits[order], [i * count // 10 for i in range(11)])
    expected = {"inception_score": np.mean(scores), "inception_score_std": np.std(scores)}
    metric = InceptionScore(splits=10, shuffle_seed=seed)
    assert metric(Features(count=count, logits=logits)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("count", "bounds"), [(100, [0, 40, 80, 100]), (80, [0, 40, 80]), (30, [0, 30])])
def test_inception_score_in_parts_of_a_size_is_adms(count, bounds):
    logits = random_logits(count)
    expected = {"inception_score": np.mean(inception_score(logits, bounds))}
    metric = InceptionScore(split_size=40)
    assert metric(Features(count=count, logits=logits)) == pytest.approx(expected, rel=1e-12)


def test_inception_score_of_certain_and_evenly_spread_classes_is_their_number():
    logits = 1e4 * torch.eye(5).repeat(20, 1)
    scores = InceptionScore(splits=4)(Features(count=100, logits=logits))
    assert scores == pytest.approx({"inception_score": 5, "inception_score_std": 0})


def of_classes(count: int, classes: int, *, sharpness: float = 6.0) -> torch.Tensor:
    """Logits of images of each class in turn; most but not all have their largest logit there."""
    noise = torch.randn(count, classes, generator=torch.Generator().manual_seed(1))
    return sharpness * torch.eye(classes)[torch.arange(count) % classes] + noise


@pytest.fixture
def notices_of(forget_notices, caplog):
    """The notices that a metric gives for these logits."""

    def run(metric, logits: torch.Tensor) -> list[str]:
        forget_notices()
        caplog.clear()
        metric(Features(count=len(logits), logits=logits))
        return caplog.messages

    return run


def test_a_notice_says_that_the_order_lowers_an_inception_score(notices_of):
    logits = of_classes(4000, 10)
    in_order = logits[torch.arange(4000).reshape(-1, 10).T.flatten()]
    metric = InceptionScore(split_size=2000)
    at_once = InceptionScore(splits=1)(Features(count=4000, logits=in_order))["inception_score"]
    assert metric(Features(count=4000, logits=in_order))["inception_score"] < 0.6 * at_once
    (message,) = notices_of(metric, in_order)
    assert "differ by the order of the images" in message and f"of all images at once it is {at_once:.6g}" in message
    assert "metric.inception_score.splits=1 metric.inception_score.split_size=null" in message
    assert notices_of(InceptionScore(splits=10), in_order) and notices_of(InceptionScore(split_size=1000), in_order)
    for mixed in (InceptionScore(splits=1), InceptionScore(splits=10, shuffle_seed=2020)):
        assert notices_of(mixed, in_order) == []
    assert notices_of(metric, logits) == []


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("splits", [2, 10])
def test_mixed_images_give_no_notice_of_their_order(classes, splits, notices_of):
    logits = of_classes(2000, classes)
    for seed in range(20):
        order = torch.randperm(2000, generator=torch.Generator().manual_seed(seed))
        assert not any("order" in message for message in notices_of(InceptionScore(splits=splits), logits[order]))


def test_a_notice_says_that_the_last_part_is_small(notices_of):
    metric = InceptionScore(split_size=2000)
    logits = of_classes(4001, 10)[torch.randperm(4001, generator=torch.Generator().manual_seed(0))]
    (message,) = notices_of(metric, logits)
    assert "its last part has only 1 images but counts as much as parts of 2,000" in message
    assert notices_of(metric, logits[:4000]) == []


@pytest.mark.parametrize(
    ("metric", "count", "words"),
    [
        (InceptionScore(split_size=5000), 1, "of 1 image in 10 classes is biased downward"),
        (InceptionScore(split_size=5000), 9, "of 9 images in 10 classes"),
        (InceptionScore(split_size=5000), 32, "of 32 images in 10 classes"),
        (InceptionScore(splits=10), 320, "of parts of 32 images in 10 classes"),
        (InceptionScore(split_size=5000), 512, None),
        (InceptionScore(split_size=32), 320, None),  # the protocol's own size
    ],
)
def test_notices_say_that_few_images_bias_the_inception_score(metric, count, words, notices_of):
    logits = of_classes(count, 10)[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    messages = notices_of(metric, logits)
    assert len(messages) == (words is not None)
    assert words is None or f"inception_score {words}" in messages[0]


# ---- Kernel Inception Distance


def discrepancy(x: np.ndarray, y: np.ndarray) -> float:
    """Binkowski et al. 2018, equation 4, by loops over all pairs."""

    def mean_kernel(a, b, pairs):
        return np.mean([(a[i] @ b[j] / len(a[i]) + 1) ** 3 for i, j in pairs])

    def others(n):
        return [(i, j) for i in range(n) for j in range(n) if i != j]

    between = [(i, j) for i in range(len(x)) for j in range(len(y))]
    return mean_kernel(x, x, others(len(x))) + mean_kernel(y, y, others(len(y))) - 2 * mean_kernel(x, y, between)


@pytest.mark.parametrize("block_size", [7, 1024])
def test_kid_of_all_pairs_is_its_definition(block_size, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_SIZE", block_size)
    fake, real = gaussian(50, 16, seed=0), gaussian(41, 16, seed=1, shift=0.3)
    expected = discrepancy(in_float64(fake), in_float64(real))
    assert KernelDistance()(fake, real) == {"kid": pytest.approx(expected, rel=1e-9)}


def test_kid_of_subsets_is_torch_fidelitys():
    fake, real = gaussian(50, 16, seed=0), gaussian(41, 16, seed=1, shift=0.3)
    draw, values = np.random.RandomState(7), []
    for _ in range(4):
        x = in_float64(fake)[draw.choice(50, 20, replace=False)]
        y = in_float64(real)[draw.choice(41, 20, replace=False)]
        values.append(discrepancy(x, y))
    expected = {"kid": np.mean(values), "kid_std": np.std(values)}
    assert KernelDistance(subsets=4, subset_size=20, seed=7)(fake, real) == pytest.approx(expected, rel=1e-9)


def test_kid_is_unbiased():
    """Between two sets of one distribution it is 0 on average, even for few images, where FID is far off."""
    values = [
        KernelDistance()(standard_normal(20, 8, 2 * seed), standard_normal(30, 8, 2 * seed + 1))["kid"]
        for seed in range(300)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(300)


# ---- Precision and recall, density and coverage


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([((row - y) ** 2).sum(1) for row in x])


def radii(centres: np.ndarray, k: int) -> np.ndarray:
    between = squared_distances(centres, centres)
    np.fill_diagonal(between, np.inf)
    return np.sort(between, axis=1)[:, k - 1]


def rounded(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32).astype(np.float64)


def brute_force(fake: np.ndarray, real: np.ndarray, k: int) -> dict[str, float]:
    """The definitions of Kynkäänniemi et al. 2019 and Naeem et al. 2020, in float64."""
    fake, real = rounded(fake), rounded(real)
    distances, real_radii = squared_distances(fake, real), radii(real, k)
    return {
        "precision": (distances <= real_radii).any(1).mean(),
        "recall": (distances <= radii(fake, k)[:, None]).any(0).mean(),
        "density": (distances < real_radii).sum() / (k * len(fake)),
        "coverage": (distances < real_radii).any(0).mean(),
    }


def balls(fake: Features, real: Features, k: int) -> dict[str, float]:
    return PrecisionRecall(k=k)(fake, real) | DensityCoverage(k=k)(fake, real)


CORNERS = np.stack(np.meshgrid(*[np.arange(3.0)] * 5), axis=-1).reshape(-1, 5)
SETS = {
    "digits": (digits(700), digits(900, start=800)),
    "real-valued": (rng.normal(size=(300, 40)) + 100, rng.normal(size=(350, 40)) * 1.05 + 100),
    "same images": (digits(300), digits(300)),
    "same real-valued images": (rng.normal(size=(200, 40)),) * 2,
    "copies among the fakes": (np.repeat(digits(100), 5, axis=0), digits(300)),
    "copies among the reference": (digits(300), np.repeat(digits(100, start=50), 4, axis=0)),
    "copies one short of the radius": (np.repeat(digits(60), 3, axis=0), np.repeat(digits(60), 2, axis=0)),
    "one image only": (np.repeat(digits(1), 30, axis=0), np.repeat(digits(1), 20, axis=0)),
    "one image of either sign of 0": (np.full((9, 3), 0.0), np.full((8, 3), -0.0)),
    "near the reference's copies": (digits(60) + 1e-4, np.repeat(digits(60), 4, axis=0)),
    # All distances are small integers: ties everywhere.
    "lattice": (rng.integers(0, 3, (400, 5)) + 4000, rng.integers(0, 4, (300, 5)) + 4000),
    "every corner of a lattice": (CORNERS, CORNERS[::2] + 0.5),
    "far outlier": (
        np.vstack([digits(200), 1e5 + digits(1)]),
        np.vstack([digits(200, start=300), digits(1) - 1e5]),
    ),
    "two far clusters": (
        np.vstack([rng.normal(size=(60, 8)), rng.normal(size=(60, 8)) + 3e4]),
        np.vstack([rng.normal(size=(50, 8)), rng.normal(size=(70, 8)) + 3e4]),
    ),
    "so small that squares vanish": (1e-25 * rng.normal(size=(90, 8)), 1e-25 * rng.normal(size=(80, 8))),
    "as few as there may be": (digits(6), digits(7, start=10)),
}


@pytest.mark.parametrize("block_size", [50, 1024])
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", SETS)
def test_balls_are_exactly_the_definition(name, k, block_size, monkeypatch):
    monkeypatch.setattr(base, "BLOCK_SIZE", block_size)
    monkeypatch.setattr(manifold, "BLOCK_SIZE", block_size)
    fake, real = SETS[name]
    assert balls(features(fake), features(real), k) == brute_force(fake, real, k)


def test_precision_and_recall_of_known_sets():
    line = torch.arange(10.0)[:, None]
    beside = torch.cat([line[:5], line[:5] + 1000])
    # With k = 1 every ball on the line reaches 1, and those of `beside` reach 1 as well.
    assert PrecisionRecall(k=1)(features(beside), features(line)) == {"precision": 0.5, "recall": 0.6}
    # Open balls hold their centres alone: one ball for each of the five fakes on the line.
    assert DensityCoverage(k=1)(features(beside), features(line)) == {"density": 0.5, "coverage": 0.5}


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e15])
@pytest.mark.parametrize("dimensions", [3, 500])
def test_bounds_hold(dimensions, scale):
    """They hold for pairs at all distances, even if these are much smaller than the terms of the products."""
    x = rng.normal(size=(60, dimensions))
    x[30:] = x[:30] * (1 + np.logspace(-9, 0, 30)[:, None])
    x = rounded(scale * x)
    tensor = torch.from_numpy(x).float()
    points = manifold.Balls(tensor, 3).points
    upper = manifold.upper_bounds(points.left(slice(None)), points.operands, points.buffer()).double().numpy()
    exact = -squared_distances(x, x) / 2
    assert (exact <= upper).all()
    assert (exact >= upper - 2 * (points.margins[:, None] + points.margins).numpy()).all()


@pytest.mark.parametrize("metric", [FrechetDistance(), FrechetInfinity(), PrecisionRecall(), DensityCoverage()])
def test_many_sets_share_what_the_reference_decides(metric, monkeypatch):
    """Neither its Gaussian nor its radii are computed again, and the scores are the same to the last bit."""
    draw = torch.Generator().manual_seed(0)
    real, *fakes = (Features(count, torch.randn(count, 6, generator=draw)) for count in (90, 40, 60))
    expected = [metric(fake, real) for fake in fakes]
    score, counts = metric.against(real), []
    gaussian, radii = fid_module.mean_and_covariance, manifold.squared_radii
    monkeypatch.setattr(fid_module, "mean_and_covariance", lambda x: counts.append(len(x)) or gaussian(x))
    monkeypatch.setattr(manifold, "squared_radii", lambda x, k: counts.append(len(x)) or radii(x, k))
    assert [score(fake) for fake in fakes] == expected and 90 not in counts


@pytest.mark.parametrize("listed", [1, 8])
@pytest.mark.parametrize("count", [8, 80])
@pytest.mark.parametrize("kind", ["apart", "copies", "equal"])
def test_parts_of_a_set_score_as_sets_of_their_own(kind, count, listed, monkeypatch):
    """Also where too few neighbours are listed, and where so many are equally near that none are."""
    monkeypatch.setattr(parts, "LISTED", listed)
    draw = torch.Generator().manual_seed(count)
    x, y = (torch.randn(number, 4, generator=draw) for number in (count, 90))
    if kind == "copies":
        x[::3], y[::5] = y[0], x[1]
    elif kind == "equal":
        x[:], y[:] = 1, 1
        monkeypatch.setattr(parts, "CROWDED", 1)
    fake, real = Features(count, x), Features(90, y)
    score = PrecisionRecall().of_parts(fake, real)
    for _ in range(5):
        rows = torch.randperm(count, generator=draw)[: count // 2].sort().values
        assert score(rows, fake.take(rows)) == PrecisionRecall()(fake.take(rows), real)


def test_a_gpu_finds_the_same_eigenvalues():
    draw = torch.Generator().manual_seed(0)
    first, second = (torch.randn(200, 30, generator=draw, dtype=torch.float64).T.cov() for _ in range(2))
    expected = fid_module._trace_of_root(first.numpy(), second.numpy())
    assert fid_module.trace_of_root(first, second) == pytest.approx(expected, rel=1e-12)
    assert fid_module.trace_of_root(first, torch.ones(30, 30, dtype=torch.float64)) is None


@pytest.mark.slow
def test_many_ties_take_little_memory():
    """All pairs of 12,000 images are as near as the k-th neighbour: a list of them would need gigabytes."""
    code = """if True:
        import resource, torch
        from ditexp.values import Features
        from ditexp.metric.density_coverage import DensityCoverage
        from ditexp.metric.precision_recall import PrecisionRecall

        torch.set_num_threads(1)
        equal = Features(count=12_000, pool=torch.ones(12_000, 4))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(PrecisionRecall()(equal, equal) | DensityCoverage()(equal, equal))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    scores, kilobytes = done.stdout.splitlines()
    assert scores == "{'precision': 1.0, 'recall': 1.0, 'density': 0.0, 'coverage': 0.0}"
    assert int(kilobytes) < 150_000


# ---- What all have in common

METRICS = {
    "fid": FrechetDistance(),
    "fid_infinity": FrechetInfinity(),
    "inception_score": InceptionScore(splits=1),
    "kid": KernelDistance(),
    "kid of subsets": KernelDistance(subsets=2, subset_size=300),
    "precision_recall": PrecisionRecall(),
    "density_coverage": DensityCoverage(),
}
BY_CHANCE = {"fid_infinity", "kid of subsets"}  # which subsets are drawn depends on the order


def with_logits(pool) -> Features:
    return features(pool, logits=torch.from_numpy(np.asarray(pool)[:, 20:30]).float())


@pytest.mark.parametrize("name", sorted(METRICS.keys() - BY_CHANCE))
def test_the_order_of_images_does_not_matter(name):
    fake, real = digits(500), digits(400, start=600)
    draw = np.random.default_rng(1)
    shuffled = METRICS[name](with_logits(draw.permutation(fake)), with_logits(draw.permutation(real)))
    assert shuffled == pytest.approx(METRICS[name](with_logits(fake), with_logits(real)), rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_the_size_of_blocks_does_not_matter(name, monkeypatch):
    fake, real = with_logits(digits(500)), with_logits(digits(400, start=600))
    whole = METRICS[name](fake, real)
    for module in (base, fid_module, manifold):
        monkeypatch.setattr(module, "BLOCK_SIZE", 33)
    assert METRICS[name](fake, real) == pytest.approx(whole, rel=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_features_are_left_as_they_were(name):
    fake, real = with_logits(digits(500)), with_logits(digits(400, start=600))
    known = replace(real, gaussians={"pool": mean_and_covariance(real.pool)})
    before = [t.clone() for t in (fake.pool, fake.logits, real.pool, known.gaussians["pool"].covariance)]
    METRICS[name](fake, known)
    after = [fake.pool, fake.logits, real.pool, known.gaussians["pool"].covariance]
    assert all(map(torch.equal, before, after))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", ["samples", "reference"])
@pytest.mark.parametrize("name", METRICS)
def test_features_that_are_not_finite_are_refused(name, place, bad):
    fake, real = with_logits(digits(500)), with_logits(digits(400, start=600))
    spoilt = fake if place == "samples" else real
    spoilt.pool[3, 2] = spoilt.logits[3, 2] = bad
    if (name, place) == ("inception_score", "reference"):
        return  # which it does not look at
    with pytest.raises(ValueError, match=f"^{name.split()[0]} got NaN or infinite (pool|logits) features: .*$"):
        METRICS[name](fake, real)


FEW = features(digits(9))


@pytest.mark.parametrize(
    ("metric", "fake", "real", "words"),
    [
        (FrechetDistance(), FEW, None, ["fid", "pool features", "one set has none"]),
        (FrechetDistance(), features(digits(1)), FEW, ["fid", "2 images", "got 1 in the samples"]),
        (FrechetDistance(name="sfid"), FEW, features(digits(1)), ["sfid", "2 images", "got 1 in the reference"]),
        (FrechetDistance(), FEW, gaussian(9, 8, seed=0), ["fid", "64 dim", "of 8", "same feature network"]),
        (FrechetDistance(uses="spatial", name="sfid"), FEW, FEW, ["sfid", "spatial features"]),
        (FrechetInfinity(), features(digits(19)), FEW, ["fid_infinity", "20 images", "got 19 in the samples"]),
        (FrechetInfinity(), features(digits(40)), gaussian(9, 8, seed=0), ["fid_infinity", "64 dim", "of 8"]),
        (InceptionScore(splits=10), features(digits(50)), None, ["inception_score", "logits features"]),
        (
            InceptionScore(splits=10),
            features(digits(9), torch.zeros(9, 4)),
            None,
            ["splits=10", "got 9", "num_samples"],
        ),
        (KernelDistance(), FEW, gaussian(9, 8, seed=0), ["kid", "64 dim", "of 8"]),
        (KernelDistance(), FEW, statistics_only(FEW), ["kid", "one set has none", "holds images"]),
        (KernelDistance(subsets=2), FEW, FEW, ["kid", "1000 images", "got 9", "metric.kid.subset_size"]),
        (PrecisionRecall(), FEW, None, ["precision_recall", "one set has none"]),
        (PrecisionRecall(), FEW, statistics_only(FEW), ["precision_recall", "one set has none", "holds images"]),
        (PrecisionRecall(k=3), features(digits(3)), FEW, ["k=3", "got 3 in the samples"]),
        (PrecisionRecall(k=3), FEW, features(digits(3)), ["k=3", "got 3 in the reference"]),
        (PrecisionRecall(k=3), features(1e20 * digits(9)), FEW, ["overflow float32", "scale them down"]),
        (DensityCoverage(k=5), FEW, features(digits(5)), ["k=5", "got 5 in the reference", "density_coverage.k"]),
    ],
)
def test_what_a_metric_lacks_is_reported_in_one_line(metric, fake, real, words):
    with refused(words):
        metric(fake, real)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InceptionScore(), ["splits=None", "split_size=None", "one of them"]),
        (lambda: InceptionScore(splits=10, split_size=5000), ["splits=10", "split_size=5000", "one of them"]),
        (lambda: InceptionScore(splits=0), ["metric.inception_score.splits=0", "at least 1"]),
        (lambda: InceptionScore(split_size=0), ["metric.inception_score.split_size=0", "at least 1"]),
        (lambda: InceptionScore(splits=2.5), ["metric.inception_score.splits=2.5", "whole number"]),
        (lambda: InceptionScore(splits=2, shuffle_seed=-1), ["metric.inception_score.shuffle_seed=-1"]),
        (lambda: KernelDistance(subsets=0), ["metric.kid.subsets=0", "at least 1"]),
        (lambda: KernelDistance(subsets=1.5), ["metric.kid.subsets=1.5", "whole number"]),
        (lambda: FrechetInfinity(seed="zero"), ["metric.fid_infinity.seed=zero"]),
        (lambda: PrecisionRecall(k=2.5).check(fake=9, real=9), ["metric.precision_recall.k=2.5", "whole number"]),
        (lambda: KernelDistance(subsets=9, subset_size=1), ["metric.kid.subset_size=1", "at least 2"]),
        (lambda: PrecisionRecall(k=0).check(fake=9, real=9), ["metric.precision_recall.k=0", "at least 1"]),
        (lambda: DensityCoverage(k=0).check(fake=9, real=9), ["metric.density_coverage.k=0", "at least 1"]),
    ],
)
def test_settings_that_make_no_metric_are_refused_in_one_line(make, words):
    with refused(words):
        make()


@pytest.mark.parametrize(
    ("metric", "fake", "real", "word"),
    [
        (FrechetDistance(), 1, None, "fid"),
        (FrechetDistance(), 9, 1, "fid"),
        (FrechetInfinity(), 19, None, "fid_infinity"),
        (FrechetInfinity(), 20, 1, "fid_infinity"),
        (InceptionScore(splits=10), 9, None, "splits=10"),
        (KernelDistance(), 1, 9, "kid"),
        (KernelDistance(subsets=1, subset_size=10), 9, 10, "kid"),
        (KernelDistance(subsets=1, subset_size=10), 10, 9, "kid"),
        (PrecisionRecall(k=4), 4, 9, "k=4"),
        (PrecisionRecall(k=4), 9, 4, "k=4"),
        (DensityCoverage(k=4), 0, 9, "density_coverage"),
        (DensityCoverage(k=4), 9, 4, "k=4"),
    ],
)
def test_counts_are_checked_before_any_work(metric, fake, real, word):
    with pytest.raises(ValueError, match=word):
        metric.check(fake=fake, real=real)
    metric.check(fake=20, real=20)
    metric.check(fake=20, real=None)


def test_metrics_and_comparisons_are_told_apart_by_their_base_class():
    fid, trajectory = FrechetDistance(), Trajectory(reference=Dopri5())
    assert base.by_kind({"fid": fid, "trajectory": trajectory}) == ({"fid": fid}, {"trajectory": trajectory})
    with refused(["metric own: object is not a metric", "inherit Metric or Comparison"]):
        base.by_kind({"fid": fid, "own": object()})
