import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ditexp.extraction import extract, feature_id
from tests.helpers.damage import flip_last_byte
from tests.helpers.images import CountedDigits
from tests.helpers.networks import Projection
from tests.helpers.refusals import refused


def expected(source, feature):
    outputs = feature(torch.from_numpy(source.images).permute(0, 3, 1, 2))
    return outputs["pool"].numpy(), outputs["logits"].numpy()


@pytest.mark.parametrize("limit", [None, 1, 256, 300])
def test_extract_gives_the_networks_outputs_in_order(tmp_path, limit):
    features = extract(CountedDigits(), Projection(), tmp_path, limit=limit)
    pool, logits = expected(CountedDigits(), Projection())
    assert features.count == len(features.pool) == (limit or 600)
    np.testing.assert_allclose(features.pool, pool[:limit], rtol=1e-5)
    np.testing.assert_allclose(features.logits, logits[:limit], rtol=1e-5)


def test_features_do_not_depend_on_the_blocks(tmp_path):
    whole, small = (extract(CountedDigits(size), Projection(), tmp_path).pool for size in (256, 7))
    torch.testing.assert_close(whole, small, rtol=1e-6, atol=1e-6 * whole.abs().max().item())


def test_a_network_without_logits(tmp_path):
    assert extract(CountedDigits(), Projection(logits=False), tmp_path).logits is None
    assert extract(CountedDigits(), Projection(logits=False), tmp_path).logits is None


def test_only_the_outputs_asked_for_are_held_and_all_are_cached(tmp_path):
    feature = Projection()
    assert extract(CountedDigits(), feature, tmp_path, outputs={"logits"}).pool is None
    assert extract(CountedDigits(), feature, tmp_path, outputs={"pool"}).logits is None
    assert extract(CountedDigits(), feature, tmp_path).logits is not None
    assert feature.calls == 3


def test_a_complete_cache_runs_no_network_and_reads_no_image(tmp_path):
    first = extract(CountedDigits(), Projection(), tmp_path)
    source, feature = CountedDigits(), Projection()
    again = extract(source, feature, tmp_path)
    assert (feature.calls, source.read) == (0, 0)
    assert torch.equal(first.pool, again.pool) and torch.equal(first.logits, again.logits)


def test_a_limit_runs_only_the_blocks_it_needs_and_reuses_them(tmp_path):
    feature = Projection()
    extract(CountedDigits(), feature, tmp_path, limit=257)
    assert feature.calls == 2
    extract(CountedDigits(), feature, tmp_path)
    assert feature.calls == 3


def test_a_set_that_grew_is_completed(tmp_path):
    """A sample set keeps its fingerprint while it grows, but its last block was shorter."""
    small, feature = CountedDigits(), Projection()
    small.images = small.images[:300]
    extract(small, feature, tmp_path)
    grown = extract(CountedDigits(), feature, tmp_path)
    assert feature.calls == 4
    np.testing.assert_allclose(grown.pool, expected(CountedDigits(), Projection())[0], rtol=1e-5)
    assert torch.equal(extract(small, feature, tmp_path).pool, grown.pool[:300])
    assert feature.calls == 4


def test_progress_counts_every_image_once(tmp_path):
    class Bar:
        count = 0

        def advance(self, amount):
            self.count += amount

    extract(CountedDigits(), Projection(), tmp_path, limit=300)
    for limit in (300, 600):
        bar = Bar()
        extract(CountedDigits(), Projection(), tmp_path, progress=bar, limit=limit)
        assert bar.count == limit


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
    first = extract(CountedDigits(), Projection(), tmp_path)
    path = tmp_path / feature_id(Projection()) / CountedDigits().fingerprint() / f"{number:06d}.safetensors"
    damage(path)
    feature = Projection()
    assert torch.equal(extract(CountedDigits(), feature, tmp_path).pool, first.pool)
    assert feature.calls == 1
    extract(CountedDigits(), feature, tmp_path)
    assert feature.calls == 1


def test_a_killed_extraction_goes_on(tmp_path):
    class Killed(Projection):
        def __call__(self, images):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(images)

    with pytest.raises(KeyboardInterrupt):
        extract(CountedDigits(), Killed(), tmp_path)
    feature = Projection()
    features = extract(CountedDigits(), feature, tmp_path)
    assert feature.calls == 1
    np.testing.assert_allclose(features.pool, expected(CountedDigits(), Projection())[0], rtol=1e-5)


def test_other_networks_and_other_images_have_other_caches(tmp_path):
    extract(CountedDigits(), Projection(), tmp_path)
    for source, feature in [(CountedDigits(), Projection(seed=1)), (CountedDigits(name="others"), Projection())]:
        extract(source, feature, tmp_path)
        assert feature.calls == 3


class Colour(Projection):
    channels = 3


class Short(CountedDigits):
    def __len__(self):
        return 601


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda t: extract(CountedDigits(), Colour(), t), ["images has 1 channel", "needs 3", "feature=digits"]),
        (lambda t: extract(CountedDigits(), Projection(), t, limit=601), ["601", "choose 1 to 600"]),
        (lambda t: extract(CountedDigits(), Projection(), t, limit=0), ["0", "choose 1 to 600"]),
        (lambda t: extract(Short(), Projection(), t), ["images ended after 600 of 601"]),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path, make, words):
    with refused(words):
        make(tmp_path)
