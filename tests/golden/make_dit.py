"""Samples by DiT's own diffusion: python -m tests.golden.make_dit /path/to/DiT (it imports timm)."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from tests.golden.noise import Feed, normal
from tests.golden.original import draw_weights, find_original, save

NETWORK = {"input_size": 8, "patch_size": 2, "in_channels": 4, "hidden_size": 64, "depth": 2, "num_heads": 4}
LABELS = [3, 207, 999]
SHAPE = (len(LABELS), 4, 8, 8)
CASES: dict[str, dict[str, Any]] = {
    "ddpm_250_guided": {"solver": "ddpm", "steps": 250, "scale": 1.5, "variance": "learned"},
    "ddpm_40": {"solver": "ddpm", "steps": 40, "scale": 1.0, "variance": "learned"},
    "ddpm_21_small": {"solver": "ddpm", "steps": 21, "scale": 1.0, "variance": "fixed_small"},
    "ddpm_21_large": {"solver": "ddpm", "steps": 21, "scale": 1.0, "variance": "fixed_large"},
    "ddim_50_guided": {"solver": "ddim", "steps": 50, "scale": 1.5, "eta": 0.0},
    "ddim_50_noisy": {"solver": "ddim", "steps": 50, "scale": 1.5, "eta": 0.7},
}
RESPACINGS = [*range(2, 31), 50, 100, 250, 1000]  # some where summing up the stride differs from rounding its multiples
POSTERIOR = ("posterior_mean_coef1", "posterior_mean_coef2", "betas", "posterior_variance")
STEPS_OF_INTEREST = (249, 125, 1)  # whose variance is stored: the first, one in the middle, the last with noise


def main() -> None:
    folder = find_original("make_dit")
    from diffusion import create_diffusion
    from diffusion.respace import space_timesteps
    from models import DiT

    network = DiT(**NETWORK, num_classes=1000, learn_sigma=True)
    shapes = draw_weights(network)

    def sample(case: str) -> Tensor:
        settings = CASES[case]
        fixed = settings.get("variance", "learned") != "learned"
        diffusion = create_diffusion(
            str(settings["steps"]), learn_sigma=not fixed, sigma_small=settings.get("variance") == "fixed_small"
        )
        z, y = normal(f"dit, {case}", SHAPE), torch.tensor(LABELS)
        arguments: dict[str, Any] = {"y": y}
        forward = (lambda x, t, y: network(x, t, y)[:, :4]) if fixed else network.forward
        if settings["scale"] > 1:
            z, forward = torch.cat([z, z]), network.forward_with_cfg
            arguments = {"y": torch.cat([y, torch.full_like(y, 1000)]), "cfg_scale": settings["scale"]}
        common = {"noise": z, "clip_denoised": False, "model_kwargs": arguments, "device": "cpu"}
        with patch("torch.randn_like", Feed(f"dit, {case}", len(LABELS))):
            if settings["solver"] == "ddim":
                x = diffusion.ddim_sample_loop(forward, z.shape, eta=settings["eta"], **common)
            else:
                x = diffusion.p_sample_loop(forward, z.shape, **common)
        return x[: len(LABELS)]

    arrays = {case: sample(case) for case in CASES}
    diffusion = create_diffusion("250")
    for name in POSTERIOR:
        arrays[name] = torch.from_numpy(vars(diffusion)[name])
    arrays["timesteps"] = torch.tensor(diffusion.timestep_map, dtype=torch.int16)
    respaced = [sorted(space_timesteps(1000, str(steps))) for steps in RESPACINGS]
    arrays["respaced"] = torch.from_numpy(np.concatenate(respaced).astype(np.int16))
    x = normal("dit, one step", SHAPE)
    for index in STEPS_OF_INTEREST:
        t, labels = torch.full((len(LABELS),), index), {"y": torch.tensor(LABELS)}
        found = diffusion.p_mean_variance(network.forward, x, t, clip_denoised=False, model_kwargs=labels)
        arrays[f"mean_{index}"], arrays[f"log_variance_{index}"] = found["mean"], found["log_variance"]
    facts = {"network": NETWORK, "shapes": shapes, "labels": LABELS, "cases": CASES, "respacings": RESPACINGS}
    save("dit", folder, arrays, facts)


if __name__ == "__main__":
    main()
