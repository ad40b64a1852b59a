"""Networks that tests build, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ditexp.model.ddt import DDT
from ditexp.model.dit import DiT
from ditexp.model.families.dits import SIT
from ditexp.model.label_network import LabelNetwork
from ditexp.model.prediction import Velocity
from ditexp.model.pretrained import PretrainedDiT
from ditexp.pixels import Pixels

TINY = {"input_size": 6, "patch_size": 2, "in_channels": 3, "num_classes": 5}
TINY |= {"hidden_size": 24, "depth": 2, "num_heads": 3}


def tiny_dit(**changes: Any) -> DiT:
    """A DiT with weights everywhere, the zero-initialised gates and output included."""
    torch.manual_seed(0)
    dit = DiT(**{**TINY, **changes})
    for name, parameter in dit.named_parameters():
        if name != "pos_embed":
            torch.nn.init.normal_(parameter, std=0.2)
    return dit


def tiny_ddt(**changes: Any) -> DDT:
    """A DDT with weights everywhere: two blocks of encoder and one of decoder."""
    torch.manual_seed(0)
    ddt = DDT(**{**TINY, "depth": 3, "encoder_depth": 2, "mlp_width": 40, **changes})
    for parameter in ddt.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return ddt.eval()


def model_of(network: LabelNetwork) -> PretrainedDiT:
    """A flow of pixels whose network was not read from a file."""
    model = PretrainedDiT.__new__(PretrainedDiT)
    side, channels = network.input_size, network.in_channels
    model.network, model.prediction, model.family = network, Velocity(), SIT
    model.start, model.start_std, model.sample_shape = 0.0, 1.0, (channels, side, side)
    model.codec, model.size_multiple = Pixels((side, side, channels)), network.patch_size
    model.num_classes, model.has_null, model.class_names = network.num_classes, network.has_null, ()
    model.identity = {}
    return model


def saved(path: Path, state: Any) -> str:
    """The path of a checkpoint, of safetensors or pickled by its suffix."""
    path.parent.mkdir(exist_ok=True)
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return str(path)


class Projection:
    """A fixed random projection of 8 x 8 images that counts its calls."""

    name = "projection"
    channels = 1
    judges_labels = False
    class_names = ()

    def __init__(self, *, seed: int = 0, logits: bool = True) -> None:
        self.weights = torch.randn(64, 16, generator=torch.Generator().manual_seed(seed))
        self.identity = {"name": self.name, "seed": seed, "logits": logits}
        self.outputs = {"pool": 16, "logits": 5} if logits else {"pool": 16}
        self.calls = 0

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        pool = images.float().flatten(1) @ self.weights
        outputs = {"pool": pool, "logits": pool[:, :5].clone()}
        return {name: outputs[name] for name in self.outputs}
