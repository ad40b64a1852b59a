"""Samples by DDT's own sampler: python -m tests.golden.make_ddt /path/to/DDT."""

from __future__ import annotations

from typing import Any

import torch

from tests.golden.noise import normal
from tests.golden.original import draw_weights, find_original, save, stand_in

NETWORK = {"in_channels": 4, "num_groups": 4, "hidden_size": 64, "num_blocks": 3, "num_encoder_blocks": 2}
LABELS = [3, 207, 999]
GUIDED = {"num_steps": 20, "guidance": 2.0, "guidance_interval_min": 0.3}
# In 10 steps to 0.9, 0.3 is a point of the grid, which is not guided. In 20 steps, step 6 is the first that is.
CASES: dict[str, dict[str, Any]] = {
    "euler": {"num_steps": 20},
    "guided": GUIDED,
    "edge_on_grid": {**GUIDED, "num_steps": 10, "last_step": 0.1},
    "shifted": {**GUIDED, "timeshift": 2.0},
    "reuse_2": {**GUIDED, "state_refresh_rate": 2},
    "reuse_3": {**GUIDED, "state_refresh_rate": 3},
}


def main() -> None:
    folder = find_original("make_ddt")
    from src.diffusion.base.guidance import simple_guidance_fn
    from src.diffusion.stateful_flow_matching.sampling import EulerSampler
    from src.diffusion.stateful_flow_matching.scheduling import LinearScheduler
    from src.models.denoiser.decoupled_improved_dit import DDT

    network = DDT(**NETWORK, num_classes=1000, patch_size=2)
    shapes = draw_weights(network)
    y = torch.tensor(LABELS)
    arrays = {}
    for case, settings in CASES.items():
        arguments = {"scheduler": LinearScheduler(), "guidance_fn": simple_guidance_fn, "last_step": 0.04, **settings}
        z = normal(f"ddt, {case}", (len(LABELS), 4, 8, 8))
        x = EulerSampler(**arguments)(network, z, y, torch.full_like(y, 1000))
        arrays[case] = x
        arrays[f"{case}_images"] = torch.clip((stand_in(x) + 1) * 127.5 + 0.5, 0, 255).to(torch.uint8)  # its fp2uint8
    save("ddt", folder, arrays, {"network": NETWORK, "shapes": shapes, "labels": LABELS, "cases": CASES})


if __name__ == "__main__":
    main()
