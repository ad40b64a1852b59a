import numpy as np
import pytest
import torch
from pytorch_fid.fid_score import calculate_frechet_distance
from sklearn.datasets import load_digits

from ditexp.core import Features
from ditexp.metric.fid import FrechetDistance, mean_and_covariance
from ditexp.metric.inception_score import InceptionScore
from ditexp.metric.precision_recall import PrecisionRecall


def features(pool, logits=None) -> Features:
    pool = torch.as_tensor(np.asarray(pool), dtype=torch.float32)
    return Features(count=len(pool), pool=pool, logits=logits)


def statistics_only(features: Features) -> Features:
    mean, covariance = mean_and_covariance(features)
    return Features(count=features.count, mean=mean, covariance=covariance)


def gaussian(count: int, dimensions: int, seed: int, *, shift: float = 0.0) -> Features:
    """Correlated features with a mean far from 0, as those of networks are."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(99))
    return features(torch.randn(count, dimensions, generator=generator) @ mixing + 5 + shift)


def digits(count: int, start: int = 0) -> np.ndarray:
    return load_digits().data[start : start + count]


def numpy_statistics(features: Features) -> tuple[np.ndarray, np.ndarray]:
    pool = features.pool.double().numpy()
    return pool.mean(0), np.cov(pool, rowvar=False)


def test_mean_and_covariance_are_numpys():
    fake = gaussian(2500, 16, seed=0)
    for ours, numpys in zip(mean_and_covariance(fake), numpy_statistics(fake)):
        np.testing.assert_allclose(ours.numpy(), numpys, rtol=1e-10)


def test_fid_is_pytorch_fids_at_full_rank():
    fake, real = gaussian(500, 64, seed=0), gaussian(700, 64, seed=1, shift=0.3)
    expected = calculate_frechet_distance(*numpy_statistics(fake), *numpy_statistics(real))
    for a in (fake, statistics_only(fake)):
        for b in (real, statistics_only(real)):
            assert FrechetDistance()(a, b)["fid"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("counts", [(20, 30), (20, 400), (400, 20), (64, 65)], ids=str)
def test_fid_is_exact_for_singular_covariances(counts):
    """The eigenvalues of S1 S2 other than 0 are those of X1 S2 X1^T, where S1 = X1^T X1."""
    fake, real = gaussian(counts[0], 64, seed=0), gaussian(counts[1], 64, seed=1, shift=0.3)
    x, y = fake.pool.double().numpy(), real.pool.double().numpy()
    roots = [(z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y)]
    smaller, larger = sorted(roots, key=len)
    trace = np.sqrt(np.linalg.eigvalsh(smaller @ larger.T @ larger @ smaller.T).clip(0)).sum()
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + sum((root**2).sum() for root in roots) - 2 * trace
    for a in (fake, statistics_only(fake)):
        for b in (real, statistics_only(real)):
            assert FrechetDistance()(a, b)["fid"] == pytest.approx(expected, rel=1e-6)


def test_fid_with_features_that_never_fire():
    """More images than dimensions, and yet singular: against the eigenvalues of the product S1 S2 itself."""
    fake, real = digits(800), digits(800, start=800)
    assert (fake.std(0) == 0).any() and (real.std(0) == 0).any()
    eigenvalues = np.linalg.eigvals(np.cov(fake, rowvar=False) @ np.cov(real, rowvar=False)).real
    expected = ((fake.mean(0) - real.mean(0)) ** 2).sum() + fake.var(0, ddof=1).sum() + real.var(0, ddof=1).sum()
    expected -= 2 * np.sqrt(eigenvalues.clip(0)).sum()
    assert FrechetDistance()(features(fake), features(real))["fid"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("count", [40, 300])
def test_fid_of_a_set_and_itself_is_zero(count):
    fake = gaussian(count, 64, seed=0)
    scale = numpy_statistics(fake)[1].trace()
    assert FrechetDistance()(fake, fake)["fid"] == pytest.approx(0, abs=1e-9 * scale)
    assert FrechetDistance()(fake, statistics_only(fake))["fid"] == pytest.approx(0, abs=1e-9 * scale)


@pytest.mark.parametrize("count", [100, 103, 10])
def test_inception_score_is_its_definition(count):
    logits = 4 * torch.randn(count, 12, generator=torch.Generator().manual_seed(0))
    p = np.exp(logits.double().numpy())
    p /= p.sum(1, keepdims=True)
    scores = [np.exp((part * np.log(part / part.mean(0))).sum(1).mean()) for part in np.array_split(p, 10)]
    assert InceptionScore()(Features(count=count, logits=logits)) == pytest.approx(
        {"inception_score": np.mean(scores), "inception_score_std": np.std(scores)}, rel=1e-6
    )


def test_inception_score_of_certain_and_evenly_spread_classes_is_their_number():
    logits = 1e4 * torch.eye(5).repeat(20, 1)
    scores = InceptionScore(splits=4)(Features(count=100, logits=logits))
    assert scores == pytest.approx({"inception_score": 5, "inception_score_std": 0})


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([((row - y) ** 2).sum(1) for row in x])


def brute_force(fake: np.ndarray, real: np.ndarray, k: int) -> dict[str, float]:
    """Kynkäänniemi et al. 2019, word for word, in float64."""
    fake, real = fake.astype(np.float32).astype(np.float64), real.astype(np.float32).astype(np.float64)

    def share_inside(points, centres):
        between = squared_distances(centres, centres)
        np.fill_diagonal(between, np.inf)
        radii = np.sort(between, axis=1)[:, k - 1]
        return (squared_distances(points, centres) <= radii).any(1).mean().item()

    return {"precision": share_inside(fake, real), "recall": share_inside(real, fake)}


rng = np.random.default_rng(0)
SETS = {
    "digits": (digits(700), digits(900, start=800)),
    "real-valued": (rng.normal(size=(300, 40)) + 100, rng.normal(size=(350, 40)) * 1.05 + 100),
    "same images": (digits(300), digits(300)),
    "copies among the fakes": (np.repeat(digits(100), 5, axis=0), digits(300)),
    "copies among the reference": (digits(300), np.repeat(digits(100, start=50), 4, axis=0)),
    "one image only": (np.repeat(digits(1), 30, axis=0), np.repeat(digits(1), 20, axis=0)),
    "near the reference's copies": (digits(60) + 1e-4, np.repeat(digits(60), 4, axis=0)),
    # All distances are small integers: ties everywhere.
    "lattice": (rng.integers(0, 3, (400, 5)) + 4000, rng.integers(0, 4, (300, 5)) + 4000),
    "far outlier": (
        np.vstack([digits(200), 1e5 + digits(1)]),
        np.vstack([digits(200, start=300), digits(1) - 1e5]),
    ),
}


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", SETS)
def test_precision_and_recall_are_exactly_the_definition(name, k):
    fake, real = SETS[name]
    assert PrecisionRecall(k=k)(features(fake), features(real)) == brute_force(fake, real, k)


def test_precision_and_recall_of_known_sets():
    line = torch.arange(10.0)[:, None]
    beside = torch.cat([line[:5], line[:5] + 1000])
    # With k = 1 every ball on the line reaches 1, and those of `beside` reach 1 as well.
    assert PrecisionRecall(k=1)(features(beside), features(line)) == {"precision": 0.5, "recall": 0.6}


@pytest.mark.parametrize("metric", [FrechetDistance(), PrecisionRecall()], ids=lambda m: type(m).__name__)
def test_the_order_of_images_does_not_matter(metric):
    fake, real = features(digits(500)), features(digits(400, start=600))
    shuffled = [
        features(f.pool[torch.randperm(f.count, generator=torch.Generator().manual_seed(1))]) for f in (fake, real)
    ]
    assert metric(*shuffled) == pytest.approx(metric(fake, real), rel=1e-9)


@pytest.mark.parametrize(
    ("metric", "fake", "real", "words"),
    [
        (FrechetDistance(), features(digits(9)), None, ["fid", "reference=digits"]),
        (FrechetDistance(), features(digits(1)), features(digits(9)), ["fid", "got 1 and 9"]),
        (FrechetDistance(), features(digits(9)), gaussian(9, 8, seed=0), ["fid", "64 dim", "of 8"]),
        (InceptionScore(), features(digits(50)), None, ["inception_score", "logits", "feature=inception"]),
        (
            InceptionScore(splits=10),
            features(digits(9), torch.zeros(9, 4)),
            None,
            ["splits=10", "got 9", "num_samples"],
        ),
        (PrecisionRecall(), features(digits(9)), None, ["precision_recall", "reference=digits"]),
        (
            PrecisionRecall(),
            features(digits(9)),
            statistics_only(features(digits(9))),
            ["precision_recall", "only their statistics", "ditexp.reference"],
        ),
        (PrecisionRecall(k=3), features(digits(3)), features(digits(9)), ["k=3", "got 3 in the samples"]),
        (PrecisionRecall(k=3), features(digits(9)), features(digits(3)), ["k=3", "got 3 in the reference"]),
    ],
)
def test_what_a_metric_lacks_is_said_in_one_line(metric, fake, real, words):
    with pytest.raises(ValueError) as error:
        metric(fake, real)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("metric", "fake", "real", "word"),
    [
        (FrechetDistance(), 9, None, "fid"),
        (FrechetDistance(), 9, 1, "fid"),
        (InceptionScore(splits=10), 9, None, "splits=10"),
        (PrecisionRecall(), 9, None, "precision_recall"),
        (PrecisionRecall(k=4), 4, 9, "k=4"),
    ],
)
def test_counts_are_checked_before_any_work(metric, fake, real, word):
    with pytest.raises(ValueError, match=word):
        metric.check(fake=fake, real=real)
    metric.check(fake=10, real=10)
