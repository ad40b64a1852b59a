"""Resizes and features against the code of those whose protocols they follow; each test needs that peer installed."""

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_fid import fid_score, inception

from ditexp.feature.inception import Inception
from ditexp.feature.resize import clean, pytorch_fid, tensorflow
from tests.helpers import inception_weights
from tests.helpers.errors import relative
from tests.helpers.images import random_pixels

SIZES = [(64, 64), (32, 48), (299, 299), (512, 512)]
# Rounding in float32, see tests/test_inception.py; our network adds up in another order.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return inception_weights.save_random(tmp_path_factory.mktemp("weights") / "random.pth")


@pytest.fixture
def pytorch_fid_network(weights, monkeypatch):
    state = torch.load(weights, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *_, **__: state)
    return inception.InceptionV3().eval()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pytorch_fids_resize(pytorch_fid_network, size):
    given, images = [], random_pixels(2, *size)
    pytorch_fid_network.blocks[0].register_forward_pre_hook(lambda module, x: given.append(x[0]))
    pytorch_fid_network(images / 255)
    assert torch.equal(pytorch_fid(images), given[0])


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_torch_fidelitys_resize(size):
    theirs = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow", exc_type=ImportError)
    images = random_pixels(2, *size)
    resized = theirs.interpolate_bilinear_2d_like_tensorflow1x(images.float(), size=(299, 299), align_corners=False)
    assert torch.equal(tensorflow(images), (resized - 128) / 128)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_clean_fids_resize(size):
    theirs = pytest.importorskip("cleanfid.resize", exc_type=ImportError).build_resizer("clean")
    images = random_pixels(2, *size)
    resized = torch.from_numpy(np.stack([theirs(image.numpy()) for image in images.permute(0, 2, 3, 1)]))
    expected, ours = (resized.permute(0, 3, 1, 2) - 128) / 128, clean(images)
    # Float64 sums in another order round to the other float32 once in a while: one step of at most 255 / 128.
    assert (ours != expected).double().mean() < 1e-5
    torch.testing.assert_close(ours, expected, rtol=0, atol=255 / 128 * torch.finfo(torch.float32).eps)


def test_torch_fidelitys_features(weights):
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    names, images = ["2048", "logits_unbiased", "logits"], random_pixels(8, 64, 64)
    network = theirs.FeatureExtractorInceptionV3("x", names, feature_extractor_weights_path=str(weights))
    pool, unbiased, biased = network(images)
    ours, with_bias = (Inception(weights=str(weights), bias=bias)(images) for bias in (False, True))
    assert relative(ours["pool"], pool) < TOLERANCE
    assert relative(ours["logits"], unbiased) < TOLERANCE
    assert relative(with_bias["logits"], biased) < TOLERANCE


def test_pytorch_fids_features_of_files(weights, pytorch_fid_network, tmp_path):
    images = random_pixels(5, 64, 48)
    files = [tmp_path / f"{index}.png" for index in range(len(images))]
    for file, image in zip(files, images.permute(0, 2, 3, 1)):
        Image.fromarray(image.numpy()).save(file)
    activations = fid_score.get_activations(files, pytorch_fid_network, batch_size=2, num_workers=0)
    ours = Inception(weights=str(weights), resize="pytorch_fid")(images)["pool"]
    assert relative(ours.double(), torch.from_numpy(activations)) < TOLERANCE
