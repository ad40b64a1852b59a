"""The decoder of a representation autoencoder (RAE, Zheng et al. 2025, arXiv 2510.11690), diffusers' AutoencoderRAE.

The encoder, DINOv2 or another, is not built: samples become images by the decoder alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ditexp.vae.architecture import NETWORKS, arguments_in
from ditexp.vae.ldm import count
from ditexp.vae.statistics import spatial

KIND = "AutoencoderRAE"
ANCHOR, MARK = "decoder.decoder_pred.weight", "decoder_pred.weight"  # in folders of diffusers, in the authors' files
POSITIONS = "decoder_pos_embed"
HEADS = {768: 12}  # of the authors' ViT-B by its width; L and XL have 16
IMAGES = {"encoder_mean": [0.485, 0.456, 0.406], "encoder_std": [0.229, 0.224, 0.225]}  # of DINOv2 and MAE: ImageNet's
LATENTS = {"_latents_mean": 0.0, "_latents_std": 1.0}
ATTENTION = r"\.attention\.(attention\.query|attention\.key|attention\.value|output\.dense)\."
LAYERS = {"attention.query": "to_q", "attention.key": "to_k", "attention.value": "to_v", "output.dense": "to_out.0"}


class Parts(NamedTuple):
    """What a file holds.

    side: of the latents. arguments: of the decoder, diffusers' RAEDecoder. tensors: its weights, by diffusers' names.
    positions: of the class token and the tokens, (1, 1 + side^2, width); None: as diffusers computes them.
    image_mean, image_std: (1, 3, 1, 1), of images in [0, 1]. mean, std: of latents, (C, 1, 1) or (C, H, W).
    """

    side: int
    arguments: dict[str, Any]
    tensors: dict[str, Tensor]
    positions: Tensor | None
    image_mean: Tensor
    image_std: Tensor
    mean: Tensor
    std: Tensor


class RepresentationDecoder(nn.Module):
    """Latents (B, C, side, side) as the encoder makes them -> images (B, 3, H, W) in about [-1, 1]."""

    def __init__(self, decoder: Any, image_mean: Tensor, image_std: Tensor) -> None:
        super().__init__()
        self.decoder = decoder
        self.register_buffer("image_mean", image_mean)
        self.register_buffer("image_std", image_std)

    def decode(self, latents: Tensor, *, return_dict: bool) -> tuple[Tensor]:
        """The images, as diffusers' autoencoders return them. return_dict: False."""
        tokens = latents.flatten(2).transpose(1, 2).contiguous()
        images = self.decoder.unpatchify(self.decoder(tokens).logits)
        return (2 * (images * self.image_std + self.image_mean) - 1,)


def parts_of_folder(config: Mapping[str, Any], tensors: Mapping[str, Tensor], name: str) -> Parts:
    """Of a folder that save_pretrained wrote. Raises ValueError for what no such autoencoder has."""
    if missing := next((key for key in NETWORKS[KIND] if key not in config), None):
        raise ValueError(f"its config has no {missing}")
    found = arguments_in(config)
    side, rest = divmod(found["encoder_input_size"], found["encoder_patch_size"])
    if rest or not side:
        raise ValueError(f"its encoder_input_size is no multiple of {found['encoder_patch_size']}")
    image_mean, image_std = (constant(tensors, key, values).view(1, 3, 1, 1) for key, values in IMAGES.items())
    mean, std = (
        spatial(tensors[key], name, key) if key in tensors and tensors[key].numel() > 1
        else constant(tensors, key, [value]).view(1, 1, 1)
        for key, value in LATENTS.items()
    )  # fmt: skip
    own = {key: value for key, value in found.items() if key.startswith("decoder_")}
    decoder = {key.removeprefix("decoder."): value for key, value in tensors.items() if key.startswith("decoder.")}
    arguments = arguments_of(found["encoder_hidden_size"], side, found["patch_size"], own)
    return Parts(side, arguments, decoder, None, image_mean, image_std, mean, std + 1e-5)  # as diffusers has it


def parts_of_file(tensors: Mapping[str, Tensor]) -> Parts:
    """Of a decoder as the authors publish it, whose images are normalised by ImageNet's mean and std.

    Its positions are those of the file. diffusers ignores them, and computes others unless the latents are 16 x 16: it
    stretches every grid to 16 positions. Raises LookupError or ValueError for weights that no such decoder has.
    """
    width, channels = tensors["decoder_embed.weight"].shape
    side, patch_size = math.isqrt(tensors[POSITIONS].shape[1] - 1), math.isqrt(len(tensors[MARK]) // 3)
    own = {
        "decoder_hidden_size": width,
        "decoder_num_hidden_layers": count(tensors, r"decoder_layers\.(\d+)\."),
        "decoder_num_attention_heads": HEADS.get(width, 16),
        "decoder_intermediate_size": len(tensors["decoder_layers.0.intermediate.dense.weight"]),
    }
    sizes = {"encoder_hidden_size": channels, "encoder_input_size": side, "encoder_patch_size": 1}
    arguments_in({"_class_name": KIND, **own, **sizes, "patch_size": patch_size, "num_channels": 3})
    if tensors[POSITIONS].shape != (1, 1 + side**2, width):
        raise ValueError(f"its {POSITIONS} is {tuple(tensors[POSITIONS].shape)}, not of a square of tokens")
    weights = {
        re.sub(ATTENTION, lambda found: f".attention.{LAYERS[found[1]]}.", key): value
        for key, value in tensors.items()
        if key != POSITIONS
    }
    return Parts(
        side=side,
        arguments=arguments_of(channels, side, patch_size, own),
        tensors=weights,
        positions=tensors[POSITIONS],
        image_mean=torch.tensor(IMAGES["encoder_mean"]).view(1, 3, 1, 1),
        image_std=torch.tensor(IMAGES["encoder_std"]).view(1, 3, 1, 1),
        mean=torch.zeros(1, 1, 1),
        std=torch.ones(1, 1, 1),
    )


def arguments_of(channels: int, side: int, patch_size: int, own: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of RAEDecoder."""
    sizes = {"num_patches": side**2, "patch_size": patch_size, "num_channels": 3, "image_size": side * patch_size}
    return {"hidden_size": channels, **own, **sizes}


def constant(tensors: Mapping[str, Tensor], key: str, values: list[float]) -> Tensor:
    """As many numbers in float32, of the file if it has them."""
    found = tensors.get(key, torch.tensor(values))
    if found.numel() != len(values) or not found.is_floating_point() or not bool(found.isfinite().all()):
        raise ValueError(f"its {key} is {tuple(found.shape)}, not {len(values)} finite numbers")
    return found.float()


def positions_of_diffusers(width: int, side: int) -> Tensor:
    """What its AutoencoderRAE computes, (1, 1 + side^2, width)."""
    from diffusers.models.embeddings import get_2d_sincos_pos_embed

    found = get_2d_sincos_pos_embed(width, side, cls_token=True, extra_tokens=1, output_type="pt")
    return found[None].float()
