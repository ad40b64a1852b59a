"""The Inception network of FID, built by pytorch-fid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from unittest import mock

import torch
from torch import Tensor, nn

from ditexp.feature.fusion import fuse
from ditexp.feature.resize import resize_named
from ditexp.feature.weights import Weights
from ditexp.precision import full_float32
from ditexp.transfer import to_device

URL = "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
CPU_BATCH = 10  # images whose activations fit into a processor's cache


class Inception:
    """The Inception network of FID, with TensorFlow's weights of 2015-12-05, for RGB images.

    pool: 2048 features, the spatial average of the last feature map.
    logits: 1008, the pooled features times the weights of the last layer.
    spatial: 2023 features for sFID (Nash et al. 2021, arXiv 2103.03841): the first 7 channels of the 1x1 branch of
    Mixed_6d after its ReLU (mixed_6/conv in TensorFlow), in ADM's order (row, column, channel).

    weights: path of pytorch-fid's file; None downloads it into torch.hub's folder on first use.
    resize: the evaluator whose preprocessing to use: tensorflow (ADM, torch-fidelity, EDM2), pytorch_fid or clean.
    bias: whether to add the last layer's bias to the logits; the Inception Score of ADM and torch-fidelity omits it.
    batch_size: images per network call; it does not change results.
    Raises ValueError for weights or a resize that don't exist.
    """

    name, channels, judges_labels = "inception", 3, False
    class_names: Sequence[str] = ()

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
        """Load the network, downloading its weights if needed. Raises ValueError if that fails."""
        _ = self._network

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) uint8 -> pool (B, 2048), logits (B, 1008) and spatial (B, 2023), float32, on its device."""
        network, last_layer = self._network
        # A CPU is 1.5 times as fast with channels last. A GPU keeps pytorch-fid's layout.
        on_cpu = self.device.type == "cpu"
        layout = torch.channels_last if on_cpu else torch.contiguous_format
        network.to(self.device).to(memory_format=layout)
        last_layer.to(self.device)
        batches = images.split(min(self.batch_size, CPU_BATCH) if on_cpu else self.batch_size)
        with full_float32():
            resized = (self._resized(to_device(x, self.device)).contiguous(memory_format=layout) for x in batches)
            outputs = [network(x) for x in resized]
            pool, spatial = (torch.cat(parts) for parts in zip(*outputs))
            return {"pool": pool, "logits": last_layer(pool), "spatial": spatial}

    @cached_property
    def _network(self) -> tuple[nn.Module, nn.Linear]:
        """The network up to the pooled features, and its last layer."""
        from pytorch_fid import inception

        self.weights.path()  # a failed download raises its own error
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
        blocks = network.get_submodule("blocks").children()
        first, second, third, last = (list(block.children()) for block in blocks)
        self.until_6d = nn.Sequential(*first, *second, *third[:-1])
        self.from_6e = nn.Sequential(third[-1], *last)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.until_6d(x)
        return self.from_6e(x).flatten(1), x[:, :7].permute(0, 2, 3, 1).flatten(1)
