"""The Inception network of FID, through pytorch-fid."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from ditexp.files import sha256

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
FILE = URL.rsplit("/", 1)[1]
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"


class Inception:
    """2048 pooled features and 1008 logits of RGB images (TensorFlow's weights of 2015-12-05).

    The protocol is pytorch-fid's: [0, 1], bilinear to 299 x 299 without antialiasing, then 2x - 1. The logits
    are the pooled features times the weights of the network's own last layer, without its bias: those that
    ADM's evaluator and torch-fidelity take the Inception Score of.

    weights: path of pytorch-fid's weights; None downloads them into torch.hub's folder on first use.
    batch_size: images per network call; changes no result.
    """

    name = "inception"
    channels = 3
    floats_per_image = 2048 + 1008

    def __init__(self, *, weights: str | None = None, batch_size: int = 50) -> None:
        if weights is not None and not Path(weights).is_file():
            raise ValueError(f"feature.weights={weights} does not exist: give the path of {FILE}, or null to download")
        self.weights = weights
        self.batch_size = batch_size
        self.device = torch.device("cpu")

    @cached_property
    def identity(self) -> dict:
        return {
            "name": self.name,
            "weights": SHA256 if self.weights is None else sha256(Path(self.weights)),
            "resize": "299, bilinear, align_corners=False, antialias=False",
            "logits": "last layer without bias",
        }

    def to(self, device: torch.device | str) -> Inception:
        self.device = torch.device(device)
        return self

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 -> (B, 2048) and (B, 1008) float32 on the CPU."""
        network, last_layer = self._network
        network.to(self.device)
        # TF32 would move the features by 1e-3, so that a score would depend on the device.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            batches = images.split(self.batch_size)
            pool = torch.cat([network(x.to(self.device).float() / 255)[0].flatten(1).cpu() for x in batches])
        return pool, pool @ last_layer.T

    @cached_property
    def _network(self) -> tuple[torch.nn.Module, Tensor]:
        """The network up to the pooled features, and the (1008, 2048) weights of its last layer."""
        from pytorch_fid import inception

        path = Path(self.weights) if self.weights is not None else _download()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            # pytorch-fid always downloads its weights; here it gets those of the given file instead.
            with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
                network = inception.InceptionV3()
            last_layer = state["fc.weight"]
        except Exception as error:
            reason = str(error).split("\n")[0]
            raise ValueError(f"{path} does not hold pytorch-fid's Inception weights ({reason}): give {FILE}") from None
        # Channels last makes convolutions a quarter faster on a CPU.
        return network.eval().to(memory_format=torch.channels_last), last_layer


def _download() -> Path:
    """pytorch-fid's weights in torch.hub's folder, downloaded unless they are there and whole."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / FILE
    if not path.is_file() or sha256(path) != SHA256:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"cannot download {URL} ({error}): set feature.weights=/path/{FILE}") from None
    return path
