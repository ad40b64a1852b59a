"""Samples by RAE's own sampler, and images by its decoder: python -m tests.golden.make_rae /path/to/RAE/src

It imports timm, einops, torchdiffeq and transformers.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.golden.files import FOLDER, write_golden
from tests.golden.noise import normal
from tests.golden.original import draw_weights, find_original, save, stand_in
from tests.golden.weights import draw

LABELS = [3, 7, 9]
LATENTS = (8, 4, 4)
SIZES: dict[str, Any] = {"input_size": 4, "in_channels": 8, "num_classes": 10}
STRONG: dict[str, Any] = {**SIZES, "hidden_size": [48, 64], "depth": [2, 1], "num_heads": [4, 2]}
WEAK: dict[str, Any] = {**SIZES, "hidden_size": [32, 64], "depth": [1, 1], "num_heads": [2, 2]}
# dimension: what decides on the shift, which is 1 for 4096; then 10 points have 0.667 and 0.334 among them.
CASES: dict[str, dict[str, Any]] = {
    "euler": {"num_steps": 20, "dimension": 196608},
    "cfg_interval": {"num_steps": 12, "dimension": 196608, "cfg_scale": 2.5, "cfg_interval": (0.2, 0.9)},
    "cfg_edge_on_grid": {"num_steps": 10, "dimension": 4096, "cfg_scale": 2.5, "cfg_interval": (0.334, 0.667)},
    "autoguidance": {"num_steps": 20, "dimension": 196608, "cfg_scale": 1.42, "weak": True},
}
DECODER: dict[str, Any] = {"hidden_size": 8, "decoder_hidden_size": 48, "decoder_num_hidden_layers": 2}
DECODER |= {"decoder_num_attention_heads": 16, "decoder_intermediate_size": 80, "patch_size": 4, "image_size": 16}
SIDE = 4  # of the decoder's latents


def sampled(case: str, settings: dict[str, Any], strong: Any, weak: Any) -> Tensor:
    """As sample_ddp.py does it, with the noise of the case."""
    from stage2.transport import Sampler, create_transport

    shift = math.sqrt(settings["dimension"] / 4096)
    transport = create_transport(path_type="Linear", prediction="velocity", time_dist_shift=shift)
    sample = Sampler(transport).sample_ode(sampling_method="euler", num_steps=settings["num_steps"])
    z, y = normal(f"rae, {case}", (len(LABELS), *LATENTS)), torch.tensor(LABELS)
    if "cfg_scale" not in settings:
        return sample(z, strong.forward, y=y)[-1]
    given = {key: settings[key] for key in ("cfg_scale", "cfg_interval") if key in settings}
    forward = strong.forward_with_cfg
    if "weak" in settings:
        given["additional_model_forward"], forward = weak.forward, strong.forward_with_autoguidance
    labels = torch.cat([y, torch.full_like(y, SIZES["num_classes"])])
    return sample(torch.cat([z, z]), forward, y=labels, **given)[-1].chunk(2)[0]


def decoded() -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """Images in about [0, 1] by their decoder, and by the whole of `RAE.decode` with statistics of the elements."""
    from stage1.decoders.decoder import GeneralDecoder
    from stage1.rae import RAE
    from transformers import ViTMAEConfig

    config = ViTMAEConfig(**DECODER, layer_norm_eps=1e-12, num_channels=3)
    rae = RAE.__new__(RAE)
    torch.nn.Module.__init__(rae)
    rae.decoder = GeneralDecoder(config, num_patches=SIDE**2)
    positions = rae.decoder.decoder_pos_embed.clone()
    shapes = draw_weights(rae.decoder)
    rae.decoder.decoder_pos_embed.copy_(positions)
    rae.encoder_mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    rae.encoder_std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    rae.reshape_to_2d, rae.do_normalization, rae.eps = True, True, 1e-5
    shape = (DECODER["hidden_size"], SIDE, SIDE)
    rae.latent_mean, rae.latent_var = draw("mean", shape), draw("var", shape).abs()
    images = rae.decode(normal("rae, latents", (2, *shape)))
    pixels = images.clamp(0, 1).mul(255).to(torch.uint8)
    return {"images": images, "pixels": pixels, "positions": positions}, shapes


def main() -> None:
    folder = find_original("make_rae")
    from stage2.models.DDT import DiTwDDTHead

    strong, weak = DiTwDDTHead(**STRONG), DiTwDDTHead(**WEAK)
    shapes, weak_shapes = draw_weights(strong), draw_weights(weak)
    arrays = {}
    for case, settings in CASES.items():
        arrays[case] = sampled(case, settings, strong, weak)
        images = ((stand_in(arrays[case]) + 1) / 2).clamp(0, 1)  # as sample_ddp.py rounds
        arrays[f"{case}_images"] = images.mul(255).to(torch.uint8)
    facts = {"network": STRONG, "shapes": shapes, "weak_shapes": weak_shapes, "labels": LABELS, "cases": CASES}
    save("rae", folder, arrays, facts)
    outputs, decoder_shapes = decoded()
    write_golden(FOLDER / "rae" / "decoder.npz", folder, {"shapes": decoder_shapes, "config": DECODER}, outputs)


if __name__ == "__main__":
    main()
