import http.server
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from hashlib import sha256

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from ditexp.feature import weights as published
from ditexp.feature.fusion import fuse
from ditexp.feature.inception import Inception
from ditexp.feature.resize import RESIZES, clean, pytorch_fid, resize_named, tensorflow
from tests.helpers import inception_weights
from tests.helpers.errors import relative
from tests.helpers.images import random_pixels
from tests.helpers.refusals import refused

# Rounding in float32 gave 1e-6 of the largest feature, 2e-6 of the largest spatial one; what is no rounding gave more:
# pixels divided by 127.5 for 128 3e-3, another resize 3e-2, an average that counts its padding 4e-2.
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return inception_weights.save_random(tmp_path_factory.mktemp("weights") / "random.pth")


@pytest.fixture(scope="module")
def plain(weights):
    """The outputs of pytorch-fid's own network for preprocessed images, by layer."""

    def outputs(prepared: torch.Tensor) -> dict[str, torch.Tensor]:
        network, maps = inception_weights.load(weights), {}
        network.Mixed_6d.branch1x1.register_forward_hook(lambda module, given, out: maps.update(conv=out))
        network.dropout.register_forward_hook(lambda module, given, out: maps.update(pool=out.flatten(1)))
        logits = network(prepared)
        return {"logits": logits, "unbiased": logits - network.fc.bias, **maps}

    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("resize", RESIZES)
def test_outputs_are_those_of_the_plain_network(weights, plain, resize):
    images = random_pixels(3, 32, 40)
    expected = plain(RESIZES[resize](images))
    assert expected["pool"].std(dim=0).mean() > 0.01 * expected["pool"].mean()  # the images differ
    unbiased, biased = (Inception(weights=weights, resize=resize, bias=bias)(images) for bias in (False, True))
    assert {name: tuple(output.shape) for name, output in unbiased.items()} == {
        name: (3, size) for name, size in Inception().outputs.items()
    }
    assert {output.dtype for output in unbiased.values()} == {torch.float32}
    # ADM flattens channels last: (row, column, channel), the order that its references' mu_s is in.
    spatial = expected["conv"].permute(0, 2, 3, 1)[..., :7].flatten(1)
    assert relative(unbiased["pool"], expected["pool"]) < TOLERANCE
    assert relative(unbiased["spatial"], spatial) < TOLERANCE
    assert relative(unbiased["logits"], expected["unbiased"]) < TOLERANCE
    assert relative(biased["logits"], expected["logits"]) < TOLERANCE


def test_spatial_features_are_behind_a_relu(weights):
    spatial = Inception(weights=weights)(random_pixels(2, 64, 64))["spatial"]
    assert spatial.min() == 0 and (spatial > 0).any()


@pytest.mark.slow
def test_outputs_do_not_depend_on_the_batch_size(weights):
    images = random_pixels(13, 16, 16)
    ones, all_at_once = (Inception(weights=weights, batch_size=size)(images) for size in (1, 50))
    for name, output in all_at_once.items():
        assert relative(ones[name], output) < TOLERANCE


def precision() -> tuple[bool, str]:
    return torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()


def test_precision_is_its_own_and_left_as_it_was(weights, monkeypatch):
    feature, seen = Inception(weights=weights), []
    feature._network[0].register_forward_pre_hook(lambda module, given: seen.append(precision()))
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    torch.set_float32_matmul_precision("high")  # as the sampler does with precision=tf32
    try:
        feature(random_pixels(1, 8, 8))
        assert precision() == (True, "high")
    finally:
        torch.set_float32_matmul_precision("highest")
    assert seen == [(False, "highest")]


def test_inception_is_known_by_what_determines_its_outputs(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the weights were loaded"))
    copy = tmp_path / "copy.pth"
    copy.write_bytes(weights.read_bytes())
    one, same = Inception(weights=weights), Inception(weights=copy, batch_size=2)
    assert one.identity == same.identity
    assert one.identity["weights"] == sha256(weights.read_bytes()).hexdigest()
    others = [Inception(), Inception(weights=weights, resize="clean"), Inception(weights=weights, bias=True)]
    assert len({str(feature.identity) for feature in (one, *others)}) == 4
    assert one.to("cpu") is one


# The resizes, against their definitions.


def interpolated(image: np.ndarray, positions: list[np.ndarray]) -> np.ndarray:
    """Linear interpolation of one (H, W) channel in float64 at rows and columns, beyond the border its value."""
    for axis, position in enumerate(positions):
        position = position.clip(0, image.shape[axis] - 1)
        lower = np.floor(position).astype(int)
        upper = np.minimum(lower + 1, image.shape[axis] - 1)
        share = np.expand_dims(position - lower, 1 - axis)
        image = image.take(lower, axis) * (1 - share) + image.take(upper, axis) * share
    return image


def float32_error(size: int) -> float:
    """Twice the error that a float32 position in an image of `size` pixels and some roundings of 255 can cause."""
    return 2 * np.finfo(np.float32).eps * (2 * size + 8)


SIZES = [(64, 64), (32, 48), (299, 299), (512, 512), (1, 1), (7, 600)]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("resize", "shift"), [(tensorflow, 0.0), (pytorch_fid, 0.5)])
def test_bilinear_resizes_are_their_definition(resize, shift, size):
    image = random_pixels(1, *size)
    positions = [(np.arange(299) + shift) * count / 299 - shift for count in size]
    channels = [interpolated(channel.double().numpy(), positions) for channel in image[0]]
    expected = np.stack([c / 127.5 - 1 if resize is pytorch_fid else (c - 128) / 128 for c in channels])
    assert np.abs(resize(image)[0].numpy() - expected).max() < float32_error(max(size))


def test_tensorflows_resize_leaves_images_of_its_size_alone():
    image = random_pixels(1, 299, 299)
    assert torch.equal(tensorflow(image), (image.float() - 128) / 128)
    assert torch.equal(clean(image), (image.float() - 128) / 128)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_cleans_resize_is_pillows_to_the_last_bit(size):
    images = random_pixels(2, *size)
    channels = [Image.fromarray(channel.numpy()) for channel in images.flatten(0, 1).float()]
    resized = np.stack([np.asarray(channel.resize((299, 299), Image.Resampling.BICUBIC)) for channel in channels])
    theirs = torch.from_numpy(resized.clip(0, 255)).unflatten(0, (2, 3))
    ours = clean(images) * 128 + 128
    # The order of summation in float64 is not Pillow's: once in a while the rounding to float32 goes the other way.
    wrong = ours != (theirs - 128) / 128 * 128 + 128
    assert wrong.double().mean() < 1e-5
    torch.testing.assert_close(ours, theirs, rtol=0, atol=255 * torch.finfo(torch.float32).eps)


# What makes it faster.


class Siblings(nn.Module):
    """A block with everything that `fuse` changes, and a max pooling that it must not move."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8))
        self.one, self.two, self.averaged, self.highest = (
            nn.Sequential(nn.Conv2d(8, width, 1, bias=False), nn.BatchNorm2d(width)) for width in (4, 6, 5, 3)
        )

    def forward(self, x):
        x = F.relu(self.stem(x))
        average = F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
        highest = F.max_pool2d(x, 3, stride=1, padding=1)
        parts = self.one(x), self.two(x), self.averaged(average), self.highest(highest)
        return torch.cat([F.relu(part, inplace=True) for part in parts], 1)


@torch.inference_mode()
def test_a_fused_network_is_the_same_function_in_fewer_layers():
    torch.manual_seed(0)
    network = Siblings().double().eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                values.data.uniform_(0.5, 1.5)
    fused, x = fuse(network), torch.randn(2, 3, 9, 9, dtype=torch.double)
    kinds = [type(module) for module in fused.modules()]
    assert kinds.count(nn.Conv2d) == 3 and nn.BatchNorm2d not in kinds
    # In float64, so that only rounding of 1e-16 times some hundred terms is left.
    torch.testing.assert_close(fused(x), network(x), rtol=1e-12, atol=1e-12)


# What can go wrong.


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: Inception(weights=path / "no.pth"), ["no.pth", "feature.weights", "pt_inception-2015-12-05"]),
        (lambda path: saved(path, b"not weights").load(), ["feature.weights=", "x.pth", "format is unknown"]),
        (lambda path: saved(path, {"fc.weight": torch.zeros(2)}).load(), ["x.pth", "pt_inception-2015-12-05"]),
        (lambda path: Inception(resize="lanczos"), ["feature.resize=lanczos", "tensorflow", "pytorch_fid", "clean"]),
        (lambda path: resize_named("tf"), ["feature.resize=tf"]),
        *(
            (lambda path, resize=resize: resize(torch.zeros(1, 3, 8, 8)), ["uint8", "float32"])
            for resize in RESIZES.values()
        ),
        (lambda path: tensorflow(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)), ["(1, 1, 8, 8)", "convert"]),
    ],
)
def test_mistakes_are_reported_in_one_line(tmp_path, make, words):
    with refused(words):
        make(tmp_path)


def saved(folder, content) -> Inception:
    path = folder / "x.pth"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    return Inception(weights=path)


CONTENT = bytes(range(256)) * 4096  # 1 MB
DIGEST = sha256(CONTENT).hexdigest()


class Server(http.server.BaseHTTPRequestHandler):
    """Sends the content without its last bytes, and calls `halfway` in the middle."""

    content, missing, requests, halfway = CONTENT, 0, 0, staticmethod(lambda: None)

    def do_GET(self):
        type(self).requests += 1
        self.send_response(200 if self.path == "/w.pth" else 404)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        half = len(self.content) // 2
        self.wfile.write(self.content[:half])
        self.wfile.flush()
        self.halfway()
        self.wfile.write(self.content[half : len(self.content) - self.missing])

    def log_message(self, *_):
        pass


@contextmanager
def serving(**attributes):
    handler = type("Handler", (Server,), attributes)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/w.pth", handler
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path / "hub" / "checkpoints"


def weights_at(url: str) -> published.Weights:
    return published.Weights(None, url=url, published=DIGEST)


def test_weights_are_downloaded_once_with_progress(checkpoints, capfd):
    with serving() as (url, handler):
        for _ in range(2):
            assert weights_at(url).path().read_bytes() == CONTENT
        assert handler.requests == 1
    assert "100" in capfd.readouterr().err
    assert [path.name for path in checkpoints.iterdir()] == ["w.pth"]


@pytest.mark.parametrize("there", [b"", CONTENT[:-1], CONTENT[:-1] + b"x"], ids=["empty", "truncated", "one byte"])
def test_a_damaged_download_is_made_again(checkpoints, there):
    checkpoints.mkdir(parents=True)
    (checkpoints / "w.pth").write_bytes(there)
    with serving() as (url, _):
        assert weights_at(url).path().read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("server", "reason"),
    [({"missing": 1}, ""), ({"content": CONTENT[::-1]}, "hash"), ({"content": b""}, "hash")],
    ids=["broken off", "other content", "empty"],
)
def test_a_download_that_is_not_the_published_file_is_not_kept(checkpoints, server, reason):
    with serving(**server) as (url, _), pytest.raises(ValueError) as error:
        weights_at(url).path()
    message = str(error.value)
    assert "\n" not in message and f"cannot download {url}" in message and "feature.weights=/path/w.pth" in message
    assert reason in message
    assert list(checkpoints.iterdir()) == []


def test_no_network_and_no_such_file(checkpoints):
    with serving() as (url, _):
        pass
    for address in (url, url.replace("w.pth", "v.pth")):
        with pytest.raises(ValueError, match=r"^cannot download .*: set feature\.weights=/path/"):
            weights_at(address).path()


def test_a_folder_that_cannot_be_written_is_reported(checkpoints):
    checkpoints.parent.mkdir()
    checkpoints.write_text("a file in the folder's place")
    with serving() as (url, _), pytest.raises(ValueError, match="cannot download"):
        weights_at(url).path()


DOWNLOAD = f"""
import sys
from ditexp.feature.weights import Weights
weights = Weights(None, url=sys.argv[1], published={DIGEST!r})
print(weights.sha256, weights.path())
"""
start = partial(subprocess.Popen, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.slow
def test_processes_that_download_at_once_don_t_disturb_each_other(checkpoints):
    with serving(halfway=threading.Barrier(2, timeout=120).wait) as (url, _):
        processes = [start([sys.executable, "-c", DOWNLOAD, url]) for _ in range(2)]
        assert [process.communicate()[0] for process in processes] == [f"{DIGEST} {checkpoints / 'w.pth'}\n"] * 2
    assert [path.read_bytes() == CONTENT for path in checkpoints.iterdir()] == [True]


def test_a_killed_download_is_not_mistaken_for_the_file(checkpoints):
    killed = threading.Event()
    with serving(halfway=killed.wait) as (url, _):
        process = start([sys.executable, "-c", DOWNLOAD, url])
        while not any(path.stat().st_size for path in checkpoints.glob(".w.pth.*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.communicate()
        killed.set()
        assert not (checkpoints / "w.pth").exists()
        assert weights_at(url).path().read_bytes() == CONTENT
        assert [path.name for path in checkpoints.iterdir()] == ["w.pth"]


def test_inception_says_which_file_to_give_when_it_has_no_network(checkpoints, monkeypatch):
    def no_network(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with pytest.raises(
        ValueError, match=r"^cannot download .*no route to host.*feature\.weights=/path/pt_inception.*$"
    ):
        Inception().load()
