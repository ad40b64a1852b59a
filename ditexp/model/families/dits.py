"""DiT (Peebles & Xie 2023) and the families whose networks are variants of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ditexp.checks import choice, number
from ditexp.model.architecture import BOTTLENECK, PATCHES, QK_NORM, ROTATIONS
from ditexp.model.families.family import IN_CONTEXT, SPAN, TOKENS, Family
from ditexp.model.paths import Discrete
from ditexp.model.prediction import Data, Noise, Prediction, Velocity, sit_prediction

GATED = "blocks.0.mlp.w12.weight"
NORM = "blocks.0.norm1.weight"
PROJECTORS = "projectors."
STATISTICS = "bn.running_mean"  # of the latents, by batch normalisation
NOISE_SCALES = {512: 2.0}  # of JiT by its images' side in pixels; 1 at 256


def predict_velocity(known: Mapping[str, Any]) -> Prediction:
    return sit_prediction(path_type=known.get("path_type", "Linear"), prediction=known.get("prediction", "velocity"))


def predict_noise(known: Mapping[str, Any]) -> Prediction:
    return Noise(Discrete())


def predict_reversed_velocity(known: Mapping[str, Any]) -> Prediction:
    choice("path_type", known.get("path_type", "linear"), ("linear",))
    return Velocity(reversed=True)


def predict_data(known: Mapping[str, Any]) -> Prediction:
    scale = known.get("noise_scale", NOISE_SCALES.get(known["side"], 1.0))
    t_eps = known.get("t_eps", Data.t_eps)
    return Data(t_eps=number("t_eps", t_eps, above=0), scale=number("noise_scale", scale, above=0))


PLAIN = (NORM, GATED, "feat_rope.", BOTTLENECK, IN_CONTEXT, SPAN)  # what SiT's blocks don't have

SIT = Family(
    name="sit",
    title="SiT",
    lacks=(PROJECTORS, "bn.", QK_NORM, *PLAIN),
    arguments=("path_type", "prediction"),
    predict=predict_velocity,
    at_noise=(0, -1),
)
DIT = Family(
    name="dit",
    title="DiT",
    lacks=SIT.lacks,
    variance=True,
    predict=predict_noise,
    at_noise=(999, 1),
)
REPA = Family(
    name="repa",
    title="REPA",
    lacks=PLAIN,
    variance=False,
    dropped=(PROJECTORS, "bn."),
    arguments=("path_type",),
    predict=predict_reversed_velocity,
    at_noise=(1, 1),
)
REPA_E = Family(
    name="repa_e",
    title="REPA-E",
    variant_of="repa",
    has=(PATCHES, STATISTICS),
    lacks=PLAIN,
    variance=False,
    dropped=REPA.dropped,
    arguments=("path_type",),
    predict=predict_reversed_velocity,
    at_noise=(1, 1),
)
LIGHTNINGDIT = Family(
    name="lightningdit",
    title="LightningDiT",
    any_of=(NORM, GATED, ROTATIONS, QK_NORM),
    lacks=(PROJECTORS, "bn.", BOTTLENECK, IN_CONTEXT, "s_embedder.", "t_embedder.W", SPAN, TOKENS),
    dropped=("feat_rope.",),
    arguments=("path_type", "prediction"),
    predict=predict_velocity,
    at_noise=(0, -1),
)
JIT = Family(
    name="jit",
    title="JiT",
    has=(BOTTLENECK, "x_embedder.proj2.weight", NORM, GATED, QK_NORM),
    lacks=(PATCHES, PROJECTORS, "blocks.0.attn.q_norm.bias"),
    dropped=("feat_rope.", "feat_rope_incontext."),
    fixed={"rms": "rms_float32", "rope": True, "float32_logits": True},
    arguments=("noise_scale", "t_eps"),
    predict=predict_data,
    at_noise=None,
)
