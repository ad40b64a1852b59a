"""Small autoencoders of diffusers with random weights, and their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tests.golden.files import FOLDER, read_golden
from tests.golden.weights import draw, drawn, drawn_like

SIDE = 8  # of the latents


def tiny_kl(**changes: Any) -> Any:
    """An AutoencoderKL for RGB at twice the side of its latents of 4 channels."""
    from diffusers import AutoencoderKL

    settings: dict[str, Any] = {
        "block_out_channels": (8, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "norm_num_groups": 4,
        "latent_channels": 4,
        "shift_factor": 0.25,
        "force_upcast": False,
    }
    network = AutoencoderKL(**{**settings, **changes}).eval().requires_grad_(False)
    network.load_state_dict(drawn_like(network.state_dict()))
    return network


def saved_kl(folder: Path, **changes: Any) -> Path:
    tiny_kl(**changes).save_pretrained(folder)
    return folder


def saved_rae(folder: Path) -> tuple[str, str]:
    """A decoder as RAE's authors publish it, of latents of 8 x 4 x 4 and images of 16 x 16, and its statistics."""
    facts, outputs = read_golden(FOLDER / "rae" / "decoder.npz")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(drawn(facts["shapes"]) | {"decoder_pos_embed": outputs["positions"]}, folder / "model.pt")
    torch.save({"mean": draw("mean", (8, 4, 4)), "var": draw("var", (8, 4, 4)).abs()}, folder / "stat.pt")
    return str(folder / "model.pt"), str(folder / "stat.pt")


def latents(channels: int = 4, count: int = 3, side: int = SIDE) -> torch.Tensor:
    return torch.randn(count, channels, side, side, generator=torch.Generator().manual_seed(0))


def images(side: int = 2 * SIDE, count: int = 3, channels: int = 3) -> torch.Tensor:
    """Images in [-1, 1]."""
    return torch.rand(count, channels, side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
