"""Tiny autoencoders in the layout of their own repository (TAESD, TAEF1, TAEF2; github.com/madebyollin/taesd).

Encoder and decoder are a state dict each, whose keys are positions in a sequence of layers. diffusers' AutoencoderTiny
is the same sequence without the decoder's first layer, which has no weights. Newer ones, as TAEF2, have blocks with a
normalised branch at the lowest resolution, which AutoencoderTiny lacks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

GROUPS = 4  # of the group normalisation in the branch
ANCHORS = {"encoder": "1.conv.0.weight", "decoder": "3.conv.0.weight"}  # weights that every such half has


def diffusers_keys(encoder: Mapping[str, Tensor], decoder: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of both halves by the names in AutoencoderTiny."""

    def shifted(key: str) -> str:
        position, _, rest = key.partition(".")
        return f"{int(position) - 1}.{rest}" if position.isdecimal() and len(position) < 4 else key

    return {
        **{f"encoder.layers.{key}": value for key, value in encoder.items()},
        **{f"decoder.layers.{shifted(key)}": value for key, value in decoder.items()},
    }


def architecture_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of AutoencoderTiny."""
    return {"latent_channels": weights["decoder.layers.0.weight"].shape[1]}


def add_branches(network: Any, weights: Mapping[str, Tensor]) -> None:
    """Give the blocks of an AutoencoderTiny the branches that the weights have."""
    for half in ("encoder", "decoder"):
        layers = network.get_submodule(f"{half}.layers")
        for position, layer in enumerate(layers):
            is_block = "conv" in dict(layer.named_children())
            if is_block and f"{half}.layers.{position}.pool.0.weight" in weights:
                layers[position] = BlockWithBranch(layer)


class BlockWithBranch(nn.Module):
    """A block of AutoencoderTiny on x + pool(x), where pool normalises its activations over the whole image."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.conv, self.skip, self.fuse = block.conv, block.skip, block.fuse
        width = block.conv[0].in_channels
        self.pool = nn.Sequential(
            nn.Conv2d(width, 4 * width, 1, bias=False),
            nn.GroupNorm(GROUPS, 4 * width),
            nn.ReLU(),
            nn.Conv2d(4 * width, width, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.pool(x)
        return self.fuse(self.conv(x) + self.skip(x))
