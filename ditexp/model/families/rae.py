"""RAE (Zheng et al. 2025, arXiv 2510.11690): DiT-DH on the latents of a representation autoencoder."""

from __future__ import annotations

from ditexp.model.dit_dh import ROTATIONS, TRUNK, Blocks, DiTDH, infer_dit_dh
from ditexp.model.families.dits import predict_reversed_velocity
from ditexp.model.families.family import Family

RAE = Family(
    name="rae",
    title="RAE",
    has=(TRUNK, "t_embedder.W", "s_projector.weight", *(f"{name}.freqs_cos" for name in ROTATIONS.values())),
    lacks=(),
    dropped=tuple(f"{name}." for name in ROTATIONS.values()),
    network=DiTDH,
    infer=infer_dit_dh,
    published={
        "input_size": 16,
        "in_channels": 768,
        "trunk": Blocks(width=1152, depth=28, num_heads=16, mlp_ratio=3072 / 1152),
        "head": Blocks(width=2048, depth=2, num_heads=16, mlp_ratio=5461 / 2048),
        "num_classes": 1000,
    },
    predict=predict_reversed_velocity,
    at_noise=(1, 1),
)
