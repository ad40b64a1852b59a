"""Autoencoders in the layout of latent diffusion (CompVis), as VA-VAE's and MAR's, for diffusers' AutoencoderKL.

The function is the same; diffusers counts the decoder's blocks from the lowest resolution on, names the layers in its
own way, and its attention has linear layers in place of 1 x 1 convolutions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

MARK = "decoder.mid.block_1.conv1.weight"  # every autoencoder of this layout has it, and none of diffusers'
UNUSED = re.compile(r"(loss|foundation_model|linear_proj\w*|model_ema)\.|linear_proj")
ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}
PARTS = (
    (r"mid\.block_(\d+)\.", lambda found, _: f"mid_block.resnets.{int(found[1]) - 1}."),
    (r"mid\.attn_1\.", lambda *_: "mid_block.attentions.0."),
    (r"down\.(\d+)\.block\.", lambda found, _: f"down_blocks.{found[1]}.resnets."),
    (r"down\.(\d+)\.attn\.", lambda found, _: f"down_blocks.{found[1]}.attentions."),
    (r"down\.(\d+)\.downsample\.", lambda found, _: f"down_blocks.{found[1]}.downsamplers.0."),
    (r"up\.(\d+)\.block\.", lambda found, levels: f"up_blocks.{levels - 1 - int(found[1])}.resnets."),
    (r"up\.(\d+)\.attn\.", lambda found, levels: f"up_blocks.{levels - 1 - int(found[1])}.attentions."),
    (r"up\.(\d+)\.upsample\.", lambda found, levels: f"up_blocks.{levels - 1 - int(found[1])}.upsamplers.0."),
    (r"norm_out\.", lambda *_: "conv_norm_out."),
)


def diffusers_keys(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights by diffusers' names, without those that only training needs."""
    levels = count(weights, r"decoder\.up\.(\d+)\.")
    return dict(renamed(key, value, levels) for key, value in weights.items() if not UNUSED.match(key))


def renamed(key: str, value: Tensor, levels: int) -> tuple[str, Tensor]:
    half, _, rest = key.partition(".")
    for pattern, name in PARTS:
        if half in ("encoder", "decoder") and (found := re.match(pattern, rest)):
            start, rest = name(found, levels), rest[found.end() :]
            if ".attentions." in start:
                *place, layer, kind = rest.split(".")
                rest = ".".join((*place, ATTENTION.get(layer, layer), kind))
                value = value[:, :, 0, 0] if value.shape[2:] == (1, 1) else value
            return f"{half}.{start}{rest.replace('nin_shortcut', 'conv_shortcut')}", value
    return key, value


def architecture_of(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of AutoencoderKL. Raises KeyError or IndexError for weights that no such autoencoder has."""
    levels = count(weights, r"encoder\.down\.(\d+)\.")

    def with_attention(half: str, level: int) -> bool:
        return f"{half}.{level}.attn.0.q.weight" in weights

    down = [with_attention("encoder.down", level) for level in range(levels)]
    up = [with_attention("decoder.up", level) for level in reversed(range(levels))]
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["decoder.conv_in.weight"].shape[1],
        "block_out_channels": [
            weights[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)
        ],
        "layers_per_block": count(weights, r"encoder\.down\.0\.block\.(\d+)\."),
        "down_block_types": [f"{'Attn' * one}DownEncoderBlock2D" for one in down],
        "up_block_types": [f"{'Attn' * one}UpDecoderBlock2D" for one in up],
        "use_quant_conv": "quant_conv.weight" in weights,
        "use_post_quant_conv": "post_quant_conv.weight" in weights,
        "mid_block_add_attention": "decoder.mid.attn_1.q.weight" in weights,
    }


def count(weights: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers the names of weights have at one place."""
    return len({found[1] for key in weights if (found := re.match(pattern, key))})
