import numpy as np
import pytest
import torch
from pytorch_fid import inception
from safetensors.torch import load_file, save_file

from ditexp.core import Features
from ditexp.feature.inception import Inception
from ditexp.features import StatisticsFile, extract, feature_id, reference_features, save_tensors
from ditexp.images import DigitsImages
from ditexp.metric.fid import FrechetDistance, mean_and_covariance


class Projection:
    """A fixed random projection of 8 x 8 images that counts its calls."""

    name = "projection"
    channels = 1

    def __init__(self, *, seed=0, logits=True):
        self.weights = torch.randn(64, 16, generator=torch.Generator().manual_seed(seed))
        self.identity = {"name": self.name, "seed": seed, "logits": logits}
        self.logits = logits
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        pool = images.float().flatten(1) @ self.weights
        return pool, pool[:, :5].clone() if self.logits else None


class Images:
    """Digits in blocks of a given size; counts the blocks that are read."""

    channels = 1

    def __init__(self, block_size=256, name="images"):
        self.block_size, self.name, self.read = block_size, name, 0
        self.images = np.concatenate(list(DigitsImages().blocks()))[:600]

    def __len__(self):
        return len(self.images)

    def fingerprint(self):
        return f"{self.name}-{self.block_size}"

    def blocks(self):
        for start in range(0, len(self), self.block_size):
            self.read += 1
            yield self.images[start : start + self.block_size]


def expected(source, feature):
    pool, logits = feature(torch.from_numpy(source.images).permute(0, 3, 1, 2))
    return pool.numpy(), logits.numpy()


@pytest.mark.parametrize("limit", [None, 1, 256, 300])
def test_extract_gives_the_networks_outputs_in_order(tmp_path, limit):
    features = extract(Images(), Projection(), tmp_path, limit=limit)
    pool, logits = expected(Images(), Projection())
    assert features.count == len(features.pool) == (limit or 600)
    np.testing.assert_allclose(features.pool, pool[:limit], rtol=1e-5)
    np.testing.assert_allclose(features.logits, logits[:limit], rtol=1e-5)


def test_features_do_not_depend_on_the_blocks(tmp_path):
    whole, small = (extract(Images(size), Projection(), tmp_path).pool for size in (256, 7))
    torch.testing.assert_close(whole, small, rtol=1e-6, atol=1e-6 * whole.abs().max().item())


def test_a_network_without_logits(tmp_path):
    assert extract(Images(), Projection(logits=False), tmp_path).logits is None
    assert extract(Images(), Projection(logits=False), tmp_path).logits is None


def test_a_complete_cache_runs_no_network_and_reads_no_image(tmp_path):
    first = extract(Images(), Projection(), tmp_path)
    source, feature = Images(), Projection()
    again = extract(source, feature, tmp_path)
    assert (feature.calls, source.read) == (0, 0)
    assert torch.equal(first.pool, again.pool) and torch.equal(first.logits, again.logits)


def test_a_limit_runs_only_the_blocks_it_needs_and_reuses_them(tmp_path):
    feature = Projection()
    extract(Images(), feature, tmp_path, limit=257)
    assert feature.calls == 2
    extract(Images(), feature, tmp_path)
    assert feature.calls == 3


def test_a_set_that_grew_is_completed(tmp_path):
    """A sample set keeps its fingerprint while it grows, and its last block was cut to its length."""
    small, feature = Images(), Projection()
    small.images = small.images[:300]
    extract(small, feature, tmp_path)
    grown = extract(Images(), feature, tmp_path)
    assert feature.calls == 4
    np.testing.assert_allclose(grown.pool, expected(Images(), Projection())[0], rtol=1e-5)
    assert torch.equal(extract(small, feature, tmp_path).pool, grown.pool[:300])
    assert feature.calls == 4


def test_progress_counts_every_image_once(tmp_path):
    class Bar:
        count = 0

        def advance(self, amount):
            self.count += amount

    extract(Images(), Projection(), tmp_path, limit=300)
    for limit in (300, 600):
        bar = Bar()
        extract(Images(), Projection(), tmp_path, progress=bar, limit=limit)
        assert bar.count == limit


def flip_last_byte(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        flip_last_byte,
        lambda path: save_file(load_file(path), path),
    ],
    ids=["deleted", "truncated", "empty", "one bit", "without checksum"],
)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_block_is_made_again_and_no_other(tmp_path, damage, number):
    first = extract(Images(), Projection(), tmp_path)
    path = tmp_path / feature_id(Projection()) / Images().fingerprint() / f"{number:06d}.safetensors"
    damage(path)
    feature = Projection()
    assert torch.equal(extract(Images(), feature, tmp_path).pool, first.pool)
    assert feature.calls == 1
    extract(Images(), feature, tmp_path)
    assert feature.calls == 1


def test_a_killed_extraction_goes_on(tmp_path):
    class Killed(Projection):
        def __call__(self, images):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        extract(Images(), Killed(), tmp_path)
    feature = Projection()
    features = extract(Images(), feature, tmp_path)
    assert feature.calls == 1
    np.testing.assert_allclose(features.pool, expected(Images(), Projection())[0], rtol=1e-5)


def test_other_networks_and_other_images_have_other_caches(tmp_path):
    extract(Images(), Projection(), tmp_path)
    for source, feature in [(Images(), Projection(seed=1)), (Images(name="others"), Projection())]:
        extract(source, feature, tmp_path)
        assert feature.calls == 3


def save_statistics(path, feature, tmp_path) -> Features:
    features = extract(Images(), feature, tmp_path)
    mean, covariance = mean_and_covariance(features)
    tensors = {"mean": mean, "covariance": covariance, "pool": features.pool, "logits": features.logits}
    identity = '{"name": "projection", "seed": 0, "logits": true}'
    metadata = {"reference": "images", "fingerprint": "f", "count": "600", "feature": identity}
    save_tensors(path, tensors, metadata)
    return features


def test_a_statistics_file_stands_for_its_images(tmp_path):
    path = tmp_path / "x.safetensors"
    features = save_statistics(path, Projection(), tmp_path)
    reference = StatisticsFile(path)
    assert (reference.name, len(reference), reference.fingerprint()) == ("images", 600, "f")
    real = reference_features(reference, Projection(), tmp_path)
    assert torch.equal(real.pool, features.pool) and torch.equal(real.logits, features.logits)
    assert torch.equal(real.mean, mean_and_covariance(features)[0])
    assert FrechetDistance()(features, real)["fid"] == pytest.approx(0, abs=1e-4)
    assert reference_features(None, Projection(), tmp_path) is None


def statistics(tmp_path, change=None, feature=None):
    save_statistics(tmp_path / "x.safetensors", Projection(), tmp_path)
    if change:
        change(tmp_path / "x.safetensors")
    return reference_features(StatisticsFile(tmp_path / "x.safetensors"), feature or Projection(), tmp_path)


class Colour(Projection):
    channels = 3


class Short(Images):
    def __len__(self):
        return 601


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: extract(Images(), Colour(), t), ["images has 1 channel", "takes 3", "feature=digits"]),
        (lambda t: extract(Images(), Projection(), t, limit=601), ["601", "choose 1 to 600"]),
        (lambda t: extract(Images(), Projection(), t, limit=0), ["0", "choose 1 to 600"]),
        (lambda t: extract(Short(), Projection(), t), ["images ended after 600 of 601"]),
        (lambda t: StatisticsFile(t / "no.safetensors"), ["no.safetensors", "ditexp.reference"]),
        (lambda t: statistics(t, lambda path: path.write_bytes(b"")), ["x.safetensors", "ditexp.reference"]),
        (lambda t: statistics(t, lambda path: save_tensors(path, {})), ["x.safetensors", "ditexp.reference"]),
        (lambda t: statistics(t, flip_last_byte), ["x.safetensors", "damaged", "again"]),
        (
            lambda t: statistics(t, feature=Projection(seed=1)),
            ["x.safetensors", '"seed": 0', '"seed": 1', "ditexp.reference"],
        ),
        (lambda t: Inception(weights=t / "no.pth"), ["no.pth", "feature.weights", "pt_inception-2015-12-05"]),
        (lambda t: wrong_weights(t, b"not weights"), ["x.pth", "pt_inception-2015-12-05"]),
        (lambda t: wrong_weights(t, {"fc.weight": torch.zeros(2)}), ["x.pth", "pt_inception-2015-12-05"]),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(tmp_path, make, words):
    with pytest.raises(ValueError) as error:
        make(tmp_path)
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def wrong_weights(tmp_path, content):
    path = tmp_path / "x.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    Inception(weights=path)(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of FID's network, built by pytorch-fid, that keep images apart down to the pool."""
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *_: None)
        network = inception.fid_inception_v3()
    for parameter in network.parameters():
        if parameter.dim() == 4:
            torch.nn.init.kaiming_normal_(parameter, generator=torch.Generator().manual_seed(0))
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def colours():
    return torch.randint(0, 256, (3, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_inception_is_pytorch_fids_network(weights, colours, monkeypatch):
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    whole = inception.fid_inception_v3().eval()
    network = inception.InceptionV3().eval()
    with torch.no_grad():
        pool = network(colours / 255)[0].flatten(1)
        logits = whole.fc(pool) - whole.fc.bias
    ours = Inception(weights=str(weights))(colours)
    assert ours[0].shape == (3, 2048) and ours[1].shape == (3, 1008)
    assert pool.std(dim=0).mean() > 0.02 * pool.mean()  # the images are told apart
    torch.testing.assert_close(ours[0], pool, rtol=1e-4, atol=1e-5 * pool.abs().max().item())
    torch.testing.assert_close(ours[1], logits, rtol=1e-4, atol=1e-5 * logits.abs().max().item())


def test_inception_does_not_depend_on_its_batch_size(weights, colours):
    ones, threes = (Inception(weights=weights, batch_size=size)(colours) for size in (1, 3))
    for one, three in zip(ones, threes):
        torch.testing.assert_close(one, three, rtol=1e-6, atol=1e-6 * one.abs().max().item())


def test_inception_is_known_by_its_weights_and_loads_them_late(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the weights were loaded"))
    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights.read_bytes())
    one, same = Inception(weights=weights), Inception(weights=copy, batch_size=2)
    assert one.identity == same.identity and one.identity != Inception().identity
    assert one.to("cpu") is one


def test_inception_without_a_network_says_what_to_set(tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        ValueError, match=r"^cannot download .*no route to host.*feature\.weights=/path/pt_inception.*$"
    ):
        Inception()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
