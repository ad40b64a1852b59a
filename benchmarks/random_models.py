"""Networks of published sizes with random weights: as fast as trained ones, and to be had without a download."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ditexp.model.dit import DiT
from ditexp.model.pretrained import PretrainedDiT


@dataclass(frozen=True)
class Size:
    """The shape of a DiT/2 in 1,000 classes, on latents of 4 x side x side."""

    hidden_size: int
    depth: int
    num_heads: int
    side: int = 32

    def network(self) -> DiT:
        return DiT(
            input_size=self.side,
            patch_size=2,
            in_channels=4,
            num_classes=1000,
            hidden_size=self.hidden_size,
            depth=self.depth,
            num_heads=self.num_heads,
        )

    def at(self, side: int) -> Size:
        return replace(self, side=side)

    def flops(self) -> int:
        """Floating-point operations of one evaluation of one sample; a product and its sum count as two."""
        with torch.device("meta"):
            network = self.network().to("meta")
            given = torch.empty(1, 4, self.side, self.side), torch.empty(1), torch.empty(1, dtype=torch.int64)
        with FlopCounterMode(display=False) as counter:
            network(*given)
        return counter.get_total_flops()


SIZES = {"S": Size(384, 12, 6), "B": Size(768, 12, 12), "L": Size(1024, 24, 16), "XL": Size(1152, 28, 16)}
TINY = Size(32, 2, 2, side=8)


def write_checkpoint(folder: Path, size: Size) -> Path:
    """A file as `ditexp train` writes it, with weights everywhere, also where training begins with zeros."""
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")  # a GPU draws faster
    with device:
        network = size.network().to(device)
    for name, parameter in network.named_parameters():
        if name != "pos_embed":
            torch.nn.init.normal_(parameter, std=0.02)
    facts = json.dumps({"num_heads": size.num_heads, "num_classes": 1000})
    path = folder / f"dit_{size.hidden_size}x{size.depth}_{size.side}.safetensors"
    state = {name: value.cpu() for name, value in network.state_dict().items()}
    save_file(state, path, metadata={"architecture": facts})
    return path


def random_model(folder: Path, size: Size) -> PretrainedDiT:
    return PretrainedDiT(checkpoint=str(write_checkpoint(folder, size)))


@dataclass(frozen=True)
class FirstChannels:
    """In place of a VAE, where only the sampling is measured: the first three channels of a latent are its image."""

    identity: ClassVar[dict[str, Any]] = {"codec": "first channels"}
    image_shape: tuple[int, int, int] = (32, 32, 3)

    def codec(self, sample_shape: Sequence[int]) -> FirstChannels:
        return FirstChannels((*sample_shape[1:], 3))

    def decode(self, x: Tensor) -> Tensor:
        return x[:, :3]

    def encode(self, images: Tensor) -> Tensor:
        raise TypeError("images have no latents here")

    def to(self, device: torch.device | str) -> FirstChannels:
        return self


def write_vae(folder: Path, *, width: int = 128) -> Path:
    """An AutoencoderKL with the layers of Stable Diffusion's, whose images have 8 times the side of latents.

    width: of its first level; 128 for the size of Stable Diffusion's.
    """
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    network = AutoencoderKL(
        block_out_channels=(width, 2 * width, 4 * width, 4 * width),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        norm_num_groups=min(32, width),
        latent_channels=4,
        force_upcast=False,
    )
    network.save_pretrained(folder)
    return folder
