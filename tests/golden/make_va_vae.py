"""Write va_vae.npz with the original autoencoder: python -m tests.golden.make_va_vae /path/to/LightningDiT

The network is theirs with 32 base channels in place of 128; its weights are drawn by name.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from tests.golden.weights import draw, drawn_like

FILE = Path(__file__).with_name("va_vae.npz")
CHANNELS, WIDTH, SIDE = 8, 32, 4
MULTIPLIERS = (1, 1, 2, 2, 4)


def main(folder: str) -> None:
    sys.path.insert(0, folder)
    from tokenizer import autoencoder

    network = small(autoencoder)
    state = network.state_dict()
    network.load_state_dict(drawn_like(state))
    latents, images = draw("latents", (2, CHANNELS, SIDE, SIDE)), draw("images", (1, 3, 16 * SIDE, 16 * SIDE))
    with torch.no_grad():
        decoded, encoded = network.decode(latents), network.encode(images).mode()
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=folder, text=True).strip()
    facts = {
        "original": "hustvl/LightningDiT tokenizer/autoencoder.py",
        "commit": commit,
        "command": "python -m tests.golden.make_va_vae /path/to/LightningDiT",
        "shapes": {name: list(value.shape) for name, value in state.items()},
    }
    np.savez_compressed(
        FILE,
        facts=json.dumps(facts),
        decoded=decoded[:, :, ::3, ::3].numpy(),  # every third pixel in both directions
        encoded=encoded.numpy(),
    )


def small(autoencoder: ModuleType) -> torch.nn.Module:
    """Their AutoencoderKL with a narrower encoder and decoder."""
    for half in ("Encoder", "Decoder"):
        setattr(autoencoder, half, functools.partial(vars(autoencoder)[half], ch=WIDTH))
    return autoencoder.AutoencoderKL(embed_dim=CHANNELS, ch_mult=MULTIPLIERS).eval()


if __name__ == "__main__":
    main(sys.argv[1])
