"""References in npz files and in statistics files: how they are used, and which files are refused."""

from __future__ import annotations

import pickle
import shlex
import shutil
import time

import numpy as np
import pytest
import torch
from PIL import Image

import ditexp.reference.npz
from ditexp.checks import ConfigError
from ditexp.evaluate.evaluator import Evaluator
from ditexp.extraction import extract, folder_of
from ditexp.files.npz import read_array
from ditexp.files.tensors import save_tensors
from ditexp.images.folder import FolderImages
from ditexp.metric.fid import FrechetDistance, mean_and_covariance
from ditexp.reference.kinds import StatisticsFile, contents_of, reference_features
from ditexp.reference.npz import NpzReference
from ditexp.reference.statistics import save_statistics
from ditexp.samples.claims import Claims
from ditexp.values import Features, Gaussian
from tests.helpers.damage import flip_last_byte
from tests.helpers.images import CountedDigits
from tests.helpers.networks import Projection
from tests.helpers.refusals import refused

rng = np.random.default_rng(0)
PICTURES = rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)


def statistics(dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    x = rng.normal(size=(50, dimensions))
    return x.mean(0), np.cov(x, rowvar=False)


class Network:
    """A feature network that counts the images it sees."""

    name, channels, outputs, identity, seen = "own", 1, {"pool": 2}, {"network": "own"}, 0

    def to(self, device):
        return self

    def __call__(self, images):
        self.seen += len(images)
        return {"pool": images.float().flatten(1)[:, :2].contiguous()}


def prepare(reference, network, tmp_path):
    Evaluator(network, reference, {"fid": FrechetDistance()}, {}).prepare(
        cache=tmp_path / "features", device=torch.device("cpu")
    )


def test_features_of_the_reference_are_extracted_once_and_before_samples_are_made(tmp_path):
    np.savez(tmp_path / "x.npz", np.repeat(PICTURES, 20, axis=0))
    network = Network()
    for _ in range(2):
        prepare(NpzReference(tmp_path / "x.npz"), network, tmp_path)
        assert network.seen == 400
    assert not list(tmp_path.rglob("*.claim"))


def test_where_features_cannot_be_kept_none_are_extracted_before_sampling(tmp_path):
    np.savez(tmp_path / "x.npz", PICTURES)
    (tmp_path / "features").write_text("no folder")
    network = Network()
    prepare(NpzReference(tmp_path / "x.npz"), network, tmp_path)
    assert network.seen == 0


def test_of_two_processes_one_extracts_and_the_other_waits(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", PICTURES)
    reference, network, first = NpzReference(tmp_path / "x.npz"), Network(), Network()
    folder = folder_of(reference.fingerprint(), network, tmp_path / "features")
    folder.mkdir(parents=True)
    other = Claims(folder)
    assert other.take("features")

    def meanwhile(seconds):
        extract(reference.images, first, tmp_path / "features")
        other.release("features")

    monkeypatch.setattr(time, "sleep", meanwhile)
    prepare(reference, network, tmp_path)
    assert (first.seen, network.seen) == (20, 0)


def test_a_damaged_reference_is_found_before_samples_are_made(tmp_path):
    for number in range(300):
        Image.fromarray(PICTURES[number % 20, ..., 0]).save(tmp_path / f"{number:03}.png")
    for number in (270, 299):
        file = tmp_path / f"{number}.png"
        file.write_bytes(file.read_bytes()[:60])
    network = Network()
    for _ in range(2):
        with pytest.raises(ConfigError) as error:
            prepare(FolderImages(tmp_path, 1), network, tmp_path)
        assert [line[: len(f"{tmp_path}/270.png")] for line in str(error.value).splitlines()] == [
            f"{tmp_path}/{number}.png" for number in (270, 299)
        ]
        assert network.seen == 256  # what was extracted is kept


def test_adms_file_has_images_and_statistics_of_others(tmp_path):
    """VIRTUAL_imagenet256_labeled.npz: 10,000 images, and mu and sigma of the whole training set."""
    (mu, sigma), (mu_s, sigma_s) = statistics(16), statistics(6)
    np.savez(tmp_path / "x.npz", arr_0=PICTURES, mu=mu, sigma=sigma, mu_s=mu_s, sigma_s=sigma_s)
    reference = NpzReference(tmp_path / "x.npz")
    assert (len(reference), reference.image_shape) == (20, (8, 8, 1))
    np.testing.assert_array_equal(np.concatenate(list(reference.images.blocks())), PICTURES)
    np.testing.assert_array_equal(reference.gaussians["pool"].mean, mu)
    np.testing.assert_array_equal(reference.gaussians["spatial"].covariance, sigma_s)

    feature = Projection()
    real = reference_features(reference, feature, tmp_path, outputs=(), statistics={"pool"})
    assert (feature.calls, real.pool, list(real.gaussians)) == (0, None, ["pool"])  # no network is run for a FID
    real = reference_features(reference, feature, tmp_path, outputs={"pool"}, statistics={"pool"})
    assert (feature.calls, real.pool.shape) == (1, (20, 16))
    np.testing.assert_array_equal(real.gaussians["pool"].mean, mu)


def test_pytorch_fids_file_has_statistics_alone(tmp_path):
    mu, sigma = statistics(16)
    np.savez(tmp_path / "x.npz", mu=mu, sigma=sigma)
    reference = NpzReference(tmp_path / "x.npz")
    assert (len(reference), reference.image_shape, list(reference.gaussians)) == (0, None, ["pool"])
    real = reference_features(reference, Projection(), tmp_path, outputs=(), statistics={"pool"})
    np.testing.assert_array_equal(real.gaussians["pool"].covariance, sigma)
    assert real.count == 0


def test_an_npz_of_images_is_a_reference_too(tmp_path):
    np.savez(tmp_path / "x.npz", PICTURES)
    np.savez(tmp_path / "y.npz", PICTURES[::-1])
    reference = NpzReference(tmp_path / "x.npz")
    real = reference_features(reference, Projection(), tmp_path, outputs=(), statistics={"pool"})
    assert real.pool.shape == (20, 16) and not real.gaussians
    (tmp_path / "copy.npz").write_bytes((tmp_path / "x.npz").read_bytes())
    assert NpzReference(tmp_path / "copy.npz").fingerprint() == reference.fingerprint()
    assert NpzReference(tmp_path / "y.npz").fingerprint() != reference.fingerprint()


def test_a_pickle_is_refused_with_a_conversion_that_works(tmp_path, monkeypatch):
    """EDM2's references: {"fid": {"mu", "sigma"}, "fd_dinov2": ...} in a pickle."""
    mu, sigma = statistics(16)
    (tmp_path / "img512.pkl").write_bytes(pickle.dumps({"fid": {"mu": mu, "sigma": sigma}}))
    with pytest.raises(ValueError, match="can run any code when it is read") as error:
        NpzReference("img512.pkl")
    message = str(error.value)
    assert "\n" not in message
    monkeypatch.chdir(tmp_path)
    exec(shlex.split(message.partition("python -c ")[2])[0].removesuffix(","), {})
    np.testing.assert_array_equal(NpzReference("img512.npz").gaussians["pool"].mean, mu)


def write_statistics(path, tmp_path) -> Features:
    feature = Projection()
    features = extract(CountedDigits(), feature, tmp_path)
    save_statistics(path, CountedDigits(), feature, features.pool, {"pool": mean_and_covariance(features.pool)})
    return features


def test_a_statistics_file_stands_for_its_images(tmp_path):
    path = tmp_path / "x.safetensors"
    features = write_statistics(path, tmp_path)
    reference = StatisticsFile(path)
    assert (reference.name, len(reference), reference.image_shape) == ("images", 600, (8, 8, 1))
    assert reference.fingerprint() == CountedDigits().fingerprint()
    feature = Projection()
    reference.check(feature)
    real = reference_features(reference, feature, tmp_path, outputs={"pool"}, statistics={"pool"})
    assert torch.equal(real.pool, features.pool) and real.gaussians["pool"].count == 600 and feature.calls == 0
    assert torch.equal(real.gaussians["pool"].covariance, mean_and_covariance(features.pool).covariance)
    assert reference_features(reference, feature, tmp_path, outputs=(), statistics={"pool"}).pool is None
    write_statistics(tmp_path / "again.safetensors", tmp_path)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_statistics_file_is_known_by_all_that_is_in_it(tmp_path):
    """The images it was made from are not enough."""
    paths = [tmp_path / f"{name}.safetensors" for name in "abc"]
    features = write_statistics(paths[0], tmp_path)
    shutil.copy(paths[0], paths[1])
    others = {"pool": mean_and_covariance(features.pool + 1)}
    save_statistics(paths[2], CountedDigits(), Projection(), features.pool, others)
    one, copy, other = map(StatisticsFile, paths)
    assert contents_of(one) == contents_of(copy) != contents_of(other)
    assert one.fingerprint() == other.fingerprint()
    shutil.copy(paths[2], paths[0])
    with refused(["a.safetensors was changed while it was in use", "run again"]):
        one.features(outputs=(), statistics={"pool"})


def test_an_npz_is_read_as_it_was_hashed(tmp_path, monkeypatch):
    (mu, sigma), path = statistics(4), tmp_path / "x.npz"
    np.savez(path, mu=mu, sigma=sigma)

    def read_from_a_file_that_is_replaced(*given):
        np.savez(tmp_path / "y.npz", mu=mu + 1, sigma=sigma)
        (tmp_path / "y.npz").replace(path)
        return read_array(*given)

    monkeypatch.setattr(ditexp.reference.npz, "read_array", read_from_a_file_that_is_replaced)
    with refused(["x.npz was changed while it was in use"]):
        NpzReference(path)


def changed(tmp_path, change) -> Features:
    path = tmp_path / "x.safetensors"
    write_statistics(path, tmp_path)
    change(path)
    return StatisticsFile(path).features(outputs={"pool"}, statistics={"pool"})


def npz(tmp_path, **arrays) -> NpzReference:
    np.savez(tmp_path / "x.npz", **arrays)
    return NpzReference(tmp_path / "x.npz")


def of_another_network(tmp_path) -> None:
    write_statistics(tmp_path / "x.safetensors", tmp_path)
    StatisticsFile(tmp_path / "x.safetensors").check(Projection(seed=1))


MU, SIGMA = statistics(4)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: StatisticsFile(t / "no.safetensors"), ["no.safetensors", "ditexp reference"]),
        (lambda t: changed(t, lambda path: path.write_bytes(b"")), ["x.safetensors", "ditexp reference"]),
        (lambda t: changed(t, lambda path: save_tensors(path, {})), ["x.safetensors", "ditexp reference"]),
        (lambda t: changed(t, flip_last_byte), ["x.safetensors", "damaged", "again"]),
        (of_another_network, ["x.safetensors", '"seed": 0', '"seed": 1', "ditexp reference"]),
        (lambda t: NpzReference(t / "no.npz"), ["no.npz", "does not exist"]),
        (lambda t: npz(t, images=PICTURES), ["x.npz: arr_0 is missing, the images seem to be in images: make"]),
        (lambda t: npz(t, mu=MU), ["x.npz has no arr_0, only mu"]),
        (lambda t: npz(t, mu=MU, sigma=SIGMA[:2]), ["mu of shape (4,)", "sigma of (2, 4)", "get the file again"]),
        (lambda t: npz(t, mu=MU * np.nan, sigma=SIGMA), ["mu holds NaN or Inf"]),
        (lambda t: npz(t, mu=np.array([None]), sigma=SIGMA), ["x.npz: mu is object", "again"]),
        (lambda t: npz(t, arr_0=PICTURES / 255), ["x.npz", "float64", "uint8"]),
        (lambda t: npz(t, mu=MU.astype("f2"), sigma=SIGMA), ["mu is float16, which has too few digits"]),
        (lambda t: npz(t, mu=MU, sigma=SIGMA.astype("f2")), ["sigma is float16, which has too few digits"]),
        (
            lambda t: npz(t, mu=MU, sigma=SIGMA.astype("f2").astype("f8")),
            ["sigma was rounded to float16 or less"],
        ),
        (
            lambda t: npz(t, mu=MU + 0j, sigma=SIGMA),
            ["mu is complex128, which is no floating point type: make", "again"],
        ),
        (lambda t: npz(t, mu=MU, sigma=SIGMA + 1j), ["sigma is complex128, which is no floating point type"]),
        (lambda t: npz(t, mu=MU, sigma=(9 * SIGMA).astype(int)), ["sigma is int64"]),
        (lambda t: npz(t, mu=MU, sigma=SIGMA.astype(str)), ["sigma is <U", "no floating point type"]),
        (lambda t: npz(t, mu=MU, sigma=np.triu(SIGMA)), ["sigma is not symmetric, by up to 0.", "get the file again"]),
        (lambda t: npz(t, mu=MU, sigma=np.tril(SIGMA)), ["sigma is not symmetric"]),
        (lambda t: npz(t, mu=MU, sigma=0 * SIGMA), ["sigma is all zeros"]),
        (lambda t: npz(t, mu=MU, sigma=-SIGMA), ["sigma has a variance of -1."]),
        (
            lambda t: npz(t, mu=MU, sigma=SIGMA - 1.1 * np.linalg.eigvalsh(SIGMA)[0] * np.eye(4)),
            ["sigma has a negative eigenvalue, -0.0"],
        ),
        (lambda t: npz(t, mu=MU, sigma=1 - np.eye(4)), ["sigma has a negative eigenvalue, -1"]),
        (lambda t: npz(t, mu=MU[None], sigma=SIGMA), ["mu of shape (1, 4)"]),
        (lambda t: npz(t, mu=MU, sigma=SIGMA.diagonal()), ["sigma of (4,)"]),
        (lambda t: npz(t, mu=MU[:0], sigma=SIGMA[:0, :0]), ["mu of shape (0,)"]),
        (lambda t: npz(t, mu=MU, sigma=SIGMA, mu_s=MU, sigma_s=np.triu(SIGMA)), ["sigma_s is not symmetric"]),
        (lambda t: NpzReference(t), ["is a folder: give the path of an npz file"]),
    ],
)
def test_a_file_that_is_no_reference_is_refused_in_one_line(tmp_path, make, words):
    with refused(words):
        make(tmp_path)


@pytest.mark.parametrize("count", [10, 500], ids=["singular", "regular"])
def test_statistics_with_the_errors_of_float32_are_accepted(tmp_path, count):
    """Made in float32, they are asymmetric and have negative eigenvalues, within rounding."""
    x = rng.gamma(0.3, size=(count, 40)) @ rng.random((40, 40))
    made = x.astype("f4") - x.astype("f4").mean(0)
    sigma = np.einsum("ni,nj->ij", made, made) / np.float32(count - 1) + np.triu(np.full((40, 40), 1e-6, "f4"), 1)
    assert (sigma != sigma.T).any() and (count > 40 or np.linalg.eigvalsh(sigma).min() < 0)
    for dtype in ("<f4", ">f4", "<f8", ">f8"):
        found = npz(tmp_path, mu=x.mean(0).astype(dtype), sigma=sigma.astype(dtype)).gaussians["pool"]
        assert found.mean.dtype == found.covariance.dtype == torch.float64
        assert torch.equal(found.covariance, found.covariance.T)
        np.testing.assert_allclose(found.covariance, np.cov(x.T), rtol=1e-3, atol=1e-4)


def test_numbers_that_float16_can_hold_are_not_always_rounded(tmp_path):
    assert npz(tmp_path, mu=np.zeros(4), sigma=np.eye(4)).gaussians["pool"].count is None


def test_our_own_statistics_are_checked_as_well(tmp_path):
    path = tmp_path / "x.safetensors"
    features = extract(CountedDigits(), Projection(), tmp_path)
    gaussian = mean_and_covariance(features.pool)
    one_triangle = Gaussian(gaussian.mean, gaussian.covariance.triu())
    save_statistics(path, CountedDigits(), Projection(), features.pool, {"pool": one_triangle})
    with refused(["x.safetensors: pool.covariance is not symmetric"]):
        StatisticsFile(path).features(outputs=(), statistics={"pool"})
