"""What the generators of golden files share: the original code on the path, its samples on disk.

A generator is run from the root of the repository, with what the original imports in the Python:

    python -m tests.golden.make_sit /path/to/SiT [commit]

The commit is needed only where the folder is no checkout.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tests.golden.files import FOLDER, write_golden
from tests.golden.weights import drawn_like


def find_original(module: str) -> Path:
    """The checkout on the command line, made importable. module: the generator's own name."""
    if len(sys.argv) not in (2, 3):
        sys.exit(f"usage: python -m tests.golden.{module} /path/to/the/original [commit]")
    folder = Path(sys.argv[1]).resolve()
    sys.path.insert(0, str(folder))
    torch.set_grad_enabled(False)
    return folder


def draw_weights(network: nn.Module) -> dict[str, list[int]]:
    """Fill a network with weights drawn by name; returns the shapes of its state dict."""
    network.load_state_dict(drawn_like(network.state_dict()))
    network.eval()
    return {name: list(value.shape) for name, value in network.state_dict().items()}


@contextmanager
def in_float64(*networks: nn.Module) -> Iterator[None]:
    """Networks and all that is computed around them in float64, also what their code computes in float32."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    for network in networks:
        network.double()
    try:
        with patch("torch.Tensor.float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(default)
        for network in networks:
            network.float()


def stand_in(samples: Tensor) -> Tensor:
    """In place of a VAE: images (B, 3, H, W) in about [-1, 1] of latents (B, C, H, W)."""
    return samples[:, :3] / 4


def save(family: str, folder: Path, arrays: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tests/golden/<family>/samples.npz."""
    write_golden(FOLDER / family / "samples.npz", folder, facts, arrays, commit="".join(sys.argv[2:]))
