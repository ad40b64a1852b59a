import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ditexp.evaluate.extraction import extract, feature_id
from ditexp.images.digits import DigitsImages
from tests.helpers.refusals import refused


class Projection:
    """A fixed random projection of 8 x 8 images that counts its calls."""

    name = "projection"
    channels = 1
    judges_labels = False
    class_names = ()

    def __init__(self, *, seed=0, logits=True):
        self.weights = torch.randn(64, 16, generator=torch.Generator().manual_seed(seed))
        self.identity = {"name": self.name, "seed": seed, "logits": logits}
        self.outputs = {"pool": 16, "logits": 5} if logits else {"pool": 16}
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        pool = images.float().flatten(1) @ self.weights
        outputs = {"pool": pool, "logits": pool[:, :5].clone()}
        return {name: outputs[name] for name in self.outputs}


class Images:
    """Digits in blocks of a given size; counts the blocks that are read."""

    image_shape = (8, 8, 1)

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
    outputs = feature(torch.from_numpy(source.images).permute(0, 3, 1, 2))
    return outputs["pool"].numpy(), outputs["logits"].numpy()


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


def test_only_the_outputs_asked_for_are_held_and_all_are_cached(tmp_path):
    feature = Projection()
    assert extract(Images(), feature, tmp_path, outputs={"logits"}).pool is None
    assert extract(Images(), feature, tmp_path, outputs={"pool"}).logits is None
    assert extract(Images(), feature, tmp_path).logits is not None
    assert feature.calls == 3


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
    """A sample set keeps its fingerprint while it grows, but its last block was shorter."""
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


class Colour(Projection):
    channels = 3


class Short(Images):
    def __len__(self):
        return 601


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: extract(Images(), Colour(), t), ["images has 1 channel", "needs 3", "feature=digits"]),
        (lambda t: extract(Images(), Projection(), t, limit=601), ["601", "choose 1 to 600"]),
        (lambda t: extract(Images(), Projection(), t, limit=0), ["0", "choose 1 to 600"]),
        (lambda t: extract(Short(), Projection(), t), ["images ended after 600 of 601"]),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path, make, words):
    with refused(words):
        make(tmp_path)
