"""Samples by REPA's own samplers: python -m tests.golden.make_repa /path/to/REPA (it imports timm)."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import torch

from tests.golden.noise import Feed, normal
from tests.golden.original import draw_weights, find_original, save, stand_in

NETWORK = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 64, "depth": 2, "num_heads": 4}
LABELS = [3, 207, 999]
# At 10 steps the end 0.7 of the interval is a point of the grid; 0.65 lies between the two stages of a step.
CASES: dict[str, dict[str, Any]] = {
    "euler": {"num_steps": 10, "cfg_scale": 1.0},
    "euler_guided": {"num_steps": 10, "cfg_scale": 1.8, "guidance_high": 0.7},
    "heun_guided": {"num_steps": 10, "cfg_scale": 1.8, "heun": True},
    "heun_edge_on_grid": {"num_steps": 10, "cfg_scale": 1.8, "guidance_high": 0.7, "heun": True},
    "heun_edge_in_step": {"num_steps": 10, "cfg_scale": 2.5, "guidance_low": 0.2, "guidance_high": 0.65, "heun": True},
    "sde": {"num_steps": 20, "cfg_scale": 1.0},
    "sde_guided": {"num_steps": 20, "cfg_scale": 1.8, "guidance_high": 0.7},
}


def main() -> None:
    folder = find_original("make_repa")
    from models.sit import SiT
    from samplers import euler_maruyama_sampler, euler_sampler

    sizes = {"decoder_hidden_size": 64, "encoder_depth": 1, "z_dims": [16], "projector_dim": 32}
    network = SiT(**NETWORK, **sizes, num_classes=1000, use_cfg=True, fused_attn=False, qk_norm=False)
    shapes = draw_weights(network)
    arrays = {}
    for case, settings in CASES.items():
        z, y = normal(f"repa, {case}", (len(LABELS), 4, 8, 8)), torch.tensor(LABELS)
        sample = euler_maruyama_sampler if case.startswith("sde") else euler_sampler
        with patch("torch.randn_like", Feed(f"repa, {case}", len(LABELS))):
            x = sample(network, z, y, **settings).to(torch.float32)
        arrays[case] = x
        images = torch.clamp(255.0 * ((stand_in(x) + 1) / 2.0), 0, 255)  # as generate.py cuts off
        arrays[f"{case}_images"] = images.to(torch.uint8)
    save("repa", folder, arrays, {"network": NETWORK, "shapes": shapes, "labels": LABELS, "cases": CASES})


if __name__ == "__main__":
    main()
