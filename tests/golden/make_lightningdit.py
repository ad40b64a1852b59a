"""Samples by LightningDiT's own sampler: python -m tests.golden.make_lightningdit /path/to/LightningDiT.

It imports timm, torchdiffeq, einops and fairscale.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from tests.golden.noise import normal
from tests.golden.original import draw_weights, find_original, in_float64, save, stand_in

NETWORK = {"input_size": 4, "patch_size": 1, "in_channels": 8, "hidden_size": 64, "depth": 2, "num_heads": 4}
BLOCKS = {"use_qknorm": False, "use_swiglu": True, "use_rope": True, "use_rmsnorm": True, "wo_shift": False}
LABELS = [3, 207, 999]
# At 11 points without a shift, 0.3 is a point of the grid, which is guided.
CASES: dict[str, dict[str, Any]] = {
    "euler": {"num_steps": 20, "timestep_shift": 0.3, "scale": 1.0},
    "euler_guided": {"num_steps": 20, "timestep_shift": 0.3, "scale": 6.7, "start": 0.125},
    "euler_edge_on_grid": {"num_steps": 11, "timestep_shift": 0.0, "scale": 6.7, "start": 0.3},
    "dopri5_guided": {"sampling_method": "dopri5", "num_steps": 250, "timestep_shift": 0.0, "scale": 2.0, "start": 0.0},
}
FLOAT64 = ("dopri5_guided",)  # see make_sit.py


def main() -> None:
    folder = find_original("make_lightningdit")
    from models.lightningdit import LightningDiT
    from transport import Sampler, create_transport

    network = LightningDiT(**NETWORK, **BLOCKS, num_classes=1000, learn_sigma=False)
    shapes = draw_weights(network)
    sampler = Sampler(create_transport("Linear", "velocity"))
    arrays = {}
    for case, settings in CASES.items():
        arguments = {"sampling_method": "euler", "atol": 1e-6, "rtol": 1e-3}
        arguments |= {key: value for key, value in settings.items() if key not in ("scale", "start")}
        sample = sampler.sample_ode(**arguments)
        z, y = normal(f"lightningdit, {case}", (len(LABELS), 8, 4, 4)), torch.tensor(LABELS)
        z = z.double() if case in FLOAT64 else z
        with in_float64(network) if case in FLOAT64 else nullcontext():
            if settings["scale"] > 1:
                both = torch.cat([y, torch.full_like(y, 1000)])
                interval = {"cfg_interval": True, "cfg_interval_start": settings["start"]}
                guidance = {"y": both, "cfg_scale": settings["scale"], **interval}
                x = sample(torch.cat([z, z]), network.forward_with_cfg, **guidance)[-1].chunk(2)[0]
            else:
                x = sample(z, network.forward, y=y)[-1]
        arrays[case] = x
        images = torch.clamp(127.5 * stand_in(x) + 128.0, 0, 255)  # as its VAE's decode_to_images rounds
        arrays[f"{case}_images"] = images.to(torch.uint8)
    facts = {"network": {**NETWORK, **BLOCKS}, "shapes": shapes, "labels": LABELS, "cases": CASES}
    save("lightningdit", folder, arrays, facts)


if __name__ == "__main__":
    main()
