"""Samples and images by REPA-E's own code: python -m tests.golden.make_repa_e /path/to/REPA-E.

It imports timm and dictdot. Its VAE is theirs with 32 base channels in place of 128.
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tests.golden.noise import Feed, normal
from tests.golden.original import draw_weights, find_original, save, stand_in

NETWORK = {"input_size": 4, "patch_size": 1, "in_channels": 8, "hidden_size": 64, "depth": 2, "num_heads": 4}
LABELS = [3, 207, 999]
WIDTH, MULTIPLIERS = 32, (1, 1, 2, 2, 4)
CASES: dict[str, dict[str, Any]] = {
    "euler_guided": {"num_steps": 10, "cfg_scale": 2.2, "guidance_high": 0.65},
    "sde": {"num_steps": 20, "cfg_scale": 1.0},
    "sde_guided": {"num_steps": 20, "cfg_scale": 2.5, "guidance_high": 0.75},
}


def main() -> None:
    folder = find_original("make_repa_e")
    from models import autoencoder
    from models.sit import SiT
    from samplers import euler_maruyama_sampler, euler_sampler

    sizes = {"decoder_hidden_size": 64, "encoder_depth": 1, "z_dims": [16], "projector_dim": 32}
    network = SiT(**NETWORK, **sizes, num_classes=1000, fused_attn=False, qk_norm=False)
    vae = small(autoencoder)
    shapes, of_vae = draw_weights(network), draw_weights(vae)
    arrays = {}
    for case, settings in CASES.items():
        z, y = normal(f"repa_e, {case}", (len(LABELS), 8, 4, 4)), torch.tensor(LABELS)
        sample = euler_maruyama_sampler if case.startswith("sde") else euler_sampler
        with patch("torch.randn_like", Feed(f"repa_e, {case}", len(LABELS))):
            x = sample(network, z, y, **settings).to(torch.float32)
        arrays[case] = x
        arrays[f"{case}_images"] = as_uint8(stand_in(x))
    decoded = vae.decode(denormalized(network, arrays["sde_guided"])).sample
    arrays["sde_guided_decoded"] = decoded[:, :, ::3, ::3].contiguous()  # every third pixel in both directions
    facts = {"network": NETWORK, "shapes": shapes, "vae": of_vae, "labels": LABELS, "cases": CASES}
    save("repa_e", folder, arrays, facts)


def denormalized(network: nn.Module, samples: Tensor) -> Tensor:
    """The latents of the VAE, as generate.py makes them of the samples of an end-to-end checkpoint."""
    state, channels = network.state_dict(), samples.shape[1]
    scale = state["bn.running_var"].rsqrt().view(1, channels, 1, 1)
    return samples / scale + state["bn.running_mean"].view(1, channels, 1, 1)


def as_uint8(images: Tensor) -> Tensor:
    """As generate.py cuts off."""
    return torch.clamp(255.0 * ((images + 1) / 2.0), 0, 255).to(torch.uint8)


def small(autoencoder: ModuleType) -> nn.Module:
    """Their AutoencoderKL with a narrower encoder and decoder."""
    for half in ("Encoder", "Decoder"):
        setattr(autoencoder, half, functools.partial(vars(autoencoder)[half], ch=WIDTH))
    return autoencoder.AutoencoderKL(embed_dim=8, ch_mult=MULTIPLIERS)


if __name__ == "__main__":
    main()
