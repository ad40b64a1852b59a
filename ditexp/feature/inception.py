"""The Inception network of FID, through pytorch-fid."""

from __future__ import annotations

from functools import cached_property
from unittest import mock

import torch
from torch import Tensor, nn

from ditexp.feature.fusion import fuse
from ditexp.feature.precision import full_float32
from ditexp.feature.resize import resize_named
from ditexp.feature.weights import Weights

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
CPU_BATCH = 10  # activations of more images than these fall out of a processor's cache


class Inception:
    """FID's network (TensorFlow's weights of 2015-12-05) of RGB images.

    pool: 2048 features, averaged over the last map. logits: 1008, the pooled features times the weights of the last
    layer. spatial: 2023, the first 7 channels of ADM's sFID (Nash et al. 2021, arXiv 2103.03841), whose TensorFlow name
    is mixed_6/conv: the 1x1 branch of Mixed_6d behind its ReLU, in ADM's order (row, column, channel).

    weights: path of pytorch-fid's file; None downloads it into torch.hub's folder on first use.
    resize: the evaluator whose input stage is followed: tensorflow (ADM, torch-fidelity, EDM2), pytorch_fid or clean.
    bias: add the last layer's bias to the logits; ADM and torch-fidelity take the Inception Score without.
    batch_size: images per network call; changes no result.
    Raises ValueError for weights or a resize that don't exist.
    """

    name, channels, judges_labels = "inception", 3, False

    def __init__(
        self, *, weights: str | None = None, resize: str = "tensorflow", bias: bool = False, batch_size: int = 50
    ) -> None:
        self.weights = Weights(weights, url=URL, published=SHA256)
        self.resize, self._resized = resize, resize_named(resize)
        self.bias = bias
        self.outputs = {"pool": 2048, "logits": 1008, "spatial": 17 * 17 * 7}
        self.batch_size = batch_size
        self.device = torch.device("cpu")

    @cached_property
    def identity(self) -> dict:
        logits = "with bias" if self.bias else "without bias"
        return {"name": self.name, "weights": self.weights.sha256, "resize": self.resize, "logits": logits}

    def to(self, device: torch.device | str) -> Inception:
        self.device = torch.device(device)
        return self

    def load(self) -> None:
        """Have the network ready, its weights downloaded where need be. Raises ValueError if they cannot be had."""
        _ = self._network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) uint8 -> pool (B, 2048), logits (B, 1008) and spatial (B, 2023), float32 on the CPU."""
        network, last_layer = self._network
        # Channels last makes a CPU half as fast again; a GPU keeps pytorch-fid's layout.
        on_cpu = self.device.type == "cpu"
        layout = torch.channels_last if on_cpu else torch.contiguous_format
        network.to(self.device, memory_format=layout)
        batches = images.split(min(self.batch_size, CPU_BATCH) if on_cpu else self.batch_size)
        with full_float32():
            outputs = [network(self._resized(x.to(self.device)).contiguous(memory_format=layout)) for x in batches]
            pool, spatial = (torch.cat(parts).cpu() for parts in zip(*outputs))
            return {"pool": pool, "logits": last_layer(pool), "spatial": spatial}

    @cached_property
    def _network(self) -> tuple[nn.Module, nn.Linear]:
        """The network up to the pooled features, and its last layer."""
        from pytorch_fid import inception

        self.weights.path()  # downloaded, or not to be had
        state = self.weights.load("FID's Inception", "fc.weight")
        try:
            # pytorch-fid always downloads its weights; here it gets those of the given file instead.
            with mock.patch.object(inception, "load_state_dict_from_url", lambda *_, **__: state):
                network = inception.InceptionV3()
            last_layer = nn.Linear(2048, 1008, bias=self.bias)
            last_layer.load_state_dict({name: state[f"fc.{name}"] for name in last_layer.state_dict()})
        except Exception as error:
            raise self.weights.unfit(error) from None
        return fuse(_Trunk(network).eval()), last_layer


class _Trunk(nn.Module):
    """(B, 3, 299, 299) -> pool (B, 2048) and spatial (B, 2023), through the layers of pytorch-fid's network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        first, second, third, last = network.blocks
        self.until_6d = nn.Sequential(*first, *second, *third[:-1])
        self.from_6e = nn.Sequential(third[-1], *last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.until_6d(x)
        return self.from_6e(x).flatten(1), x[:, :7].permute(0, 2, 3, 1).flatten(1)
