import shutil
import socket
from hashlib import sha256

import numpy as np
import pytest
import torch

from ditexp.feature import dinov2
from ditexp.feature.dinov2 import DINOv2, preprocess
from tests.helpers.refusals import refused

HUBCONF = """
import warnings
import torch
from torch import nn

dependencies = ["torch"]


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 4, 1024)
        self.dropout = nn.Dropout()

    def forward(self, x):
        assert x.shape[1:] == (3, 224, 224) and x.dtype == torch.float32
        return self.dropout(self.head(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)))


def dinov2_vitl14(*, pretrained=True):
    assert not pretrained, "weights are loaded by ditexp, which checks them"
    warnings.warn("xFormers is not available (Attention)")
    return Tiny()
"""


@pytest.fixture
def repository(tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


@pytest.fixture
def weights(tmp_path):
    path = tmp_path / "tiny.pth"
    draw = torch.Generator().manual_seed(0)
    state = {"head.weight": torch.randn(1024, 12, generator=draw), "head.bias": torch.randn(1024, generator=draw)}
    torch.save(state, path)
    return path


def images(count: int, height: int, width: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=draw)


def bicubic(count: int) -> np.ndarray:
    """(224, count) float64: Keys' cubic kernel with a = -1/2, as wide as an output pixel where that is the larger."""
    stretch = max(count / 224, 1.0)
    centres = (np.arange(224) + 0.5) * count / 224
    x = np.abs(np.arange(count) + 0.5 - centres[:, None]) / stretch
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0))
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("size", [(64, 64), (32, 48), (224, 224), (512, 300)], ids=str)
def test_images_are_prepared_as_edm2_does(size):
    """Antialiased bicubic to 224 x 224, not clamped to 0..255, then /255 and ImageNet's mean and deviation."""
    image = (images(1, *size) > 127) * torch.tensor(255, dtype=torch.uint8)
    rows, columns = (bicubic(count) for count in size)
    resized = rows @ image[0].double().numpy() @ columns.T / 255
    assert size == (224, 224) or (resized.max() > 1 and resized.min() < 0)
    mean, std = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])[:, :, None, None]
    # A float32 position is off by 1.5 eps * size pixels at most, the kernel is nowhere steeper than 1.4, 4 pixels wide
    # and 1.25 in all: that makes 2 * 1.5 * 1.4 * 4 * 1.25 = 21 for rows and columns.
    bound = np.finfo(np.float32).eps * (21 * max(size) + 32) / 0.224
    assert np.abs(preprocess(image)[0].numpy() - (resized - mean) / std).max() < bound


def test_pool_is_the_networks_output_in_evaluation_mode(repository, weights, recwarn):
    feature, given = DINOv2(repository=str(repository), weights=str(weights)), images(5, 40, 32)
    state = torch.load(weights)
    quarters = torch.nn.functional.adaptive_avg_pool2d(preprocess(given), 2).flatten(1)
    expected = quarters @ state["head.weight"].T + state["head.bias"]
    output = feature(given)
    assert list(output) == ["pool"] and output["pool"].shape == (5, feature.outputs["pool"])
    torch.testing.assert_close(output["pool"], expected)
    small = DINOv2(repository=str(repository), weights=str(weights), batch_size=2)
    torch.testing.assert_close(small(given)["pool"], output["pool"])
    assert not [str(warning.message) for warning in recwarn if "xFormers" in str(warning.message)]


def test_it_is_known_by_its_weights(repository, weights, tmp_path):
    feature = DINOv2(weights=str(weights))
    assert feature.identity["weights"] == sha256(weights.read_bytes()).hexdigest()
    assert feature.identity == DINOv2(weights=str(weights), batch_size=1).identity
    assert DINOv2().identity["weights"] == dinov2.SHA256


def test_it_is_known_by_the_code_of_a_clone(repository, weights, tmp_path):
    feature = DINOv2(weights=str(weights), repository=str(repository))
    copy = shutil.copytree(repository, tmp_path / "copy")
    (copy / "README.md").write_text("for people")
    assert DINOv2(weights=str(weights), repository=str(copy)).identity == feature.identity
    (copy / "model.py").write_text("")
    assert DINOv2(weights=str(weights), repository=str(copy)).identity != feature.identity
    (repository / "model.py").write_text("")
    with refused(["was changed while it was in use"]):
        feature.load()


def test_weights_that_change_after_they_were_hashed_are_not_used(repository, weights):
    feature = DINOv2(weights=str(weights), repository=str(repository))
    assert feature.identity
    state = torch.load(weights)
    torch.save({name: value + 1 for name, value in state.items()}, weights)
    with refused(["was changed while it was in use"]):
        feature.load()


def test_precision_is_full(repository, weights):
    feature, seen = DINOv2(repository=str(repository), weights=str(weights)), []
    feature._network.register_forward_pre_hook(
        lambda module, given: seen.append((torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()))
    )
    torch.set_float32_matmul_precision("high")  # as the sampler does with precision=tf32
    try:
        feature(images(1, 8, 8))
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [(False, "highest")]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_offline_it_says_what_to_set(offline, repository, weights):
    with pytest.raises(ValueError) as error:
        DINOv2(weights=str(weights)).load()
    message = str(error.value)
    assert "\n" not in message and "no route to host" in message
    assert "set feature.repository=/path/to/clone feature.weights=/path/dinov2_vitl14_pretrain.pth" in message
    with pytest.raises(ValueError, match=r"^cannot download .*set feature\.weights=/path/dinov2_vitl14_pretrain\.pth$"):
        DINOv2(repository=str(repository)).load()


def with_code(repository, code) -> DINOv2:
    (repository / "hubconf.py").write_text(code)
    return DINOv2(repository=str(repository))


def with_weights(repository, path, content) -> DINOv2:
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return DINOv2(repository=str(repository), weights=str(path))


class Code:
    """Code that a pickle of weights could run."""

    def __reduce__(self):
        return print, ("unpickled code ran",)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda r, w: DINOv2(repository=str(r / "no")), ["feature.repository=", "no hubconf.py", "clone"]),
        (lambda r, w: DINOv2(weights=str(r / "no.pth")), ["no.pth", "dinov2_vitl14_pretrain.pth", "null"]),
        (lambda r, w: with_code(r, "import no_such_module").load(), ["no_such_module", "feature.repository"]),
        (lambda r, w: with_code(r, "dependencies = []").load(), ["dinov2_vitl14", "feature.repository"]),
        (lambda r, w: with_weights(r, w, b"no weights").load(), ["feature.weights=", "tiny.pth", "format is unknown"]),
        (lambda r, w: with_weights(r, w, {"head.bias": torch.zeros(2)}).load(), ["tiny.pth is not DINOv2: it has"]),
        (lambda r, w: with_weights(r, w, {"head.bias": Code()}).load(), ["tiny.pth", "holds no state dict"]),
        (lambda r, w: DINOv2(repository=str(r), weights=str(w))(torch.zeros(1, 3, 8, 8)), ["uint8", "float32"]),
    ],
)
def test_mistakes_are_reported_in_one_line(repository, weights, make, words, capsys):
    with refused(words):
        make(repository, weights)
    assert "unpickled code" not in capsys.readouterr().out
