"""Samples by SiT's own samplers: python -m tests.golden.make_sit /path/to/SiT (it imports timm and torchdiffeq)."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch

from tests.golden.noise import Feed, normal
from tests.golden.original import draw_weights, find_original, in_float64, save, stand_in

NETWORK = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 64, "depth": 2, "num_heads": 4}
LABELS = [3, 207, 999]
# With guidance, dopri5 is compared in float64. In float32 the length of its first step is estimated from a difference
# that is mostly rounding: SiT's own samples then move by 1e-4 to 5e-4 if its noise is multiplied by 1 + 1e-7.
ODE: dict[str, dict[str, Any]] = {
    "euler": {"sampling_method": "euler", "num_steps": 20, "scale": 1.0},
    "euler_guided": {"sampling_method": "euler", "num_steps": 20, "scale": 1.5},
    "heun2_guided": {"sampling_method": "heun2", "num_steps": 13, "scale": 1.5},
    "dopri5": {"sampling_method": "dopri5", "num_steps": 250, "scale": 1.0},
    "dopri5_guided": {"sampling_method": "dopri5", "num_steps": 250, "scale": 2.5, "float64": True},
}
SDE: dict[str, dict[str, Any]] = {
    "sde": {"sampling_method": "Euler", "num_steps": 20, "scale": 1.0},
    "sde_guided": {"sampling_method": "Euler", "num_steps": 20, "scale": 1.5},
    "sde_decreasing": {"sampling_method": "Euler", "num_steps": 20, "diffusion_form": "decreasing", "scale": 1.5},
    "sde_heun": {"sampling_method": "Heun", "num_steps": 12, "scale": 1.0},
    "sde_heun_guided": {"sampling_method": "Heun", "num_steps": 12, "scale": 1.5},
}


def main() -> None:
    folder = find_original("make_sit")
    from models import SiT
    from transport import Sampler, create_transport

    network = SiT(**NETWORK, num_classes=1000, learn_sigma=True)
    shapes = draw_weights(network)
    sampler = Sampler(create_transport("Linear", "velocity"))
    arrays = {}
    for case, settings in {**ODE, **SDE}.items():
        scale = settings["scale"]
        arguments = {key: value for key, value in settings.items() if key not in ("scale", "float64")}
        if case in ODE:
            sample = sampler.sample_ode(atol=1e-6, rtol=1e-3, **arguments)
        else:
            sample = sampler.sample_sde(**{"diffusion_form": "sigma", **arguments})
        z, y = normal(f"sit, {case}", (len(LABELS), 4, 8, 8)), torch.tensor(LABELS)
        exact = in_float64(network) if settings.get("float64") else nullcontext()
        z = z.double() if settings.get("float64") else z
        with exact, patch("torch.randn", Feed(f"sit, {case}", len(LABELS))):
            if scale > 1:
                both = torch.cat([y, torch.full_like(y, 1000)])
                x = sample(torch.cat([z, z]), network.forward_with_cfg, y=both, cfg_scale=scale)[-1].chunk(2)[0]
            else:
                x = sample(z, network.forward, y=y)[-1]
        arrays[case] = x
        images = torch.clamp(127.5 * stand_in(x) + 128.0, 0, 255)  # as sample_ddp.py rounds
        arrays[f"{case}_images"] = images.to(torch.uint8)
    save("sit", folder, arrays, {"network": NETWORK, "shapes": shapes, "labels": LABELS, "cases": {**ODE, **SDE}})


if __name__ == "__main__":
    main()
