"""Samples by the caches' own code for DiT: python -m tests.golden.make_caches taylorseer|fora /path/to/it [commit]

For tests/golden/test_samples.py. The paths are TaylorSeer/TaylorSeer-DiT and FORA/src; what they import (timm) must be
importable. There are 28 steps, because DiT's timesteps are then equally far apart: TaylorSeer's code measures time in
steps, ditexp in timesteps.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from tests.golden.files import FOLDER, write_golden
from tests.golden.noise import Feed, normal
from tests.golden.original import draw_weights

NETWORK = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 64, "depth": 2, "num_heads": 4}
LABELS = [3, 207, 999]
SHAPE = (len(LABELS), 4, 8, 8)
STEPS, SCALE = 28, 1.5
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "taylorseer": {
        "taylorseer_4_4": {"interval": 4, "max_order": 4},
        "taylorseer_3_1": {"interval": 3, "max_order": 1},
    },
    "fora": {"fora_3": {"cache_threshold": 3}},
}


def taylorseer(
    network: nn.Module, diffusion: Any, z: Tensor, arguments: dict[str, Any], case: dict[str, Any]
) -> Tensor:
    """By DDIM, as with --ddim-sample."""
    settings = {**arguments, **case, "test_FLOPs": False}
    forward = forward_without(network, (*case, "test_FLOPs"))
    return diffusion.ddim_sample_loop(forward, z.shape, z, clip_denoised=False, model_kwargs=settings, device="cpu")


def forward_without(network: nn.Module, names: tuple[str, ...]) -> Any:
    """The network's guided forward, without arguments that are its cache's."""
    inner = network.forward_with_cfg
    return lambda *args, **given: inner(*args, **{key: value for key, value in given.items() if key not in names})


def fora(network: nn.Module, diffusion: Any, z: Tensor, arguments: dict[str, Any], case: dict[str, Any]) -> Tensor:
    """By DDPM: the loop of DDIM does not have its cache."""
    network.cache_attn = network.cache_mlp = None
    network.num_steps, network.cache_threshold = STEPS, case["cache_threshold"]
    cache = {"save_cache": "boost_infer_static", "cache_subtype": "default"}
    forward = network.forward_with_cfg
    return diffusion.p_sample_loop(
        forward, z.shape, z, clip_denoised=False, model_kwargs=arguments, device="cpu", **cache
    )


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2]).resolve()
    sys.path.insert(0, str(folder))
    torch.set_grad_enabled(False)
    from diffusion import create_diffusion
    from models import DiT

    network = DiT(**NETWORK, num_classes=1000, learn_sigma=True)
    shapes = draw_weights(network)
    y = torch.tensor(LABELS)
    arguments = {"y": torch.cat([y, torch.full_like(y, 1000)]), "cfg_scale": SCALE}
    sample = {"taylorseer": taylorseer, "fora": fora}[kind]
    arrays = {}
    for name, case in CASES[kind].items():
        z = normal(f"dit, {name}", SHAPE)
        with patch("torch.randn_like", Feed(f"dit, {name}", len(LABELS))):
            x = sample(network, create_diffusion(str(STEPS)), torch.cat([z, z]), arguments, case)
        arrays[name] = x[: len(LABELS)].contiguous()
    facts = {"network": NETWORK, "shapes": shapes, "labels": LABELS, "cases": CASES[kind]}
    write_golden(FOLDER / "dit" / f"{kind}.npz", folder, facts, arrays, commit="".join(sys.argv[3:]))


if __name__ == "__main__":
    main()
