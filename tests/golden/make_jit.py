"""Images by JiT's own sampler: TORCHDYNAMO_DISABLE=1 python -m tests.golden.make_jit /path/to/JiT cbc743a."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from tests.golden.noise import normal
from tests.golden.original import draw_weights, find_original, save

NETWORK = {"patch_size": 4, "hidden_size": 64, "depth": 3, "num_heads": 4, "bottleneck_dim": 16, "in_context_start": 1}
IMAGE = 16
LABELS = [3, 207, 999]
CASES: dict[str, dict[str, Any]] = {
    "unguided": {"cfg": 1.0, "interval_min": 0.0, "interval_max": 1.0, "noise_scale": 1.0},
    "guided": {"cfg": 3.0, "interval_min": 0.0, "interval_max": 1.0, "noise_scale": 1.0},
    "interval": {"cfg": 3.0, "interval_min": 0.1, "interval_max": 1.0, "noise_scale": 1.0},  # 0.1 is on the grid
    "inner_interval": {"cfg": 2.2, "interval_min": 0.1, "interval_max": 0.8, "noise_scale": 1.0},
    "noise_scale_2": {"cfg": 2.3, "interval_min": 0.1, "interval_max": 1.0, "noise_scale": 2.0},
}


def main() -> None:
    folder = find_original("make_jit")
    import model_jit
    from denoiser import Denoiser

    torch.Tensor.cuda = lambda tensor: tensor  # its network asks for a GPU, on which nothing here depends
    model_jit.JiT_models["tiny"] = partial(model_jit.JiT, **NETWORK)
    arrays, shapes = {}, {}
    for case, settings in CASES.items():
        training = {"attn_dropout": 0.0, "proj_dropout": 0.0, "label_drop_prob": 0.1, "P_mean": -0.8, "P_std": 0.8}
        rates = {"t_eps": 0.05, "ema_decay1": 0.9999, "ema_decay2": 0.9996}
        sampling = {"sampling_method": "heun", "num_sampling_steps": 50, **settings}
        sizes = {"model": "tiny", "img_size": IMAGE, "class_num": 1000}
        denoiser = Denoiser(Namespace(**sizes, **training, **rates, **sampling))
        shapes = draw_weights(denoiser.net)
        noise = normal(f"jit, {case}", (len(LABELS), 3, IMAGE, IMAGE))
        with patch("torch.randn", lambda *shape, device=None, noise=noise: noise):
            x = denoiser.generate(torch.tensor(LABELS))
        arrays[case] = x
        pixels = np.round(np.clip(((x + 1) / 2).numpy() * 255, 0, 255))  # as engine_jit.py rounds
        arrays[f"{case}_images"] = torch.from_numpy(pixels.astype(np.uint8))
    facts = {"network": {**NETWORK, "input_size": IMAGE}, "shapes": shapes, "labels": LABELS, "cases": CASES}
    save("jit", folder, arrays, facts)


if __name__ == "__main__":
    main()
