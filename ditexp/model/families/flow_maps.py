"""MeanFlow (Geng et al. 2025) and the families of two times after it: iMF, pMF; and how their authors sample them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ditexp.checks import number
from ditexp.model.architecture import (
    BOTTLENECK,
    PATCHES,
    TABLE,
    NoDiT,
    classes_of,
    depth_of,
    heads_of,
    shape_of,
)
from ditexp.model.families.dits import GATED, NORM, PROJECTORS
from ditexp.model.families.family import IN_CONTEXT, SPAN, TOKENS, Family
from ditexp.model.improved_mean_flow import ImprovedMeanFlow, PixelMeanFlow
from ditexp.model.mean_flow import MeanFlowDiT
from ditexp.model.prediction import Data, Prediction, Velocity

GATES = "blocks.0.mlp.w1.weight"
QUERIES = "blocks.0.attn.q_proj.weight"
TOKEN_KINDS = ("class", "omega", "t_min", "t_max", "time")
UNUSED = ("v_heads.", "v_final_layer.", "rope_freqs")  # what training alone needs, and what is computed
LATENTS = 32  # height and width of iMF's, which nothing in a file tells


@dataclass(frozen=True)
class Recipe:
    """How the authors sample a network in one step, which nothing in its file tells.

    omega, interval: of the guidance inside, see InnerGuidance: in the network's time, from data at 0 to noise at 1.
    noise_scale: the standard deviation of its noise.
    """

    omega: float
    interval: tuple[float, float]
    noise_scale: float = 1.0

    @property
    def settings(self) -> dict[str, Any]:
        """By the names of PretrainedFlowMap's, whose time is 0 at noise."""
        low, high = (round(1 - end, 9) for end in reversed(self.interval))
        return {"omega": self.omega, "interval": [low, high], "noise_scale": self.noise_scale}


# By depth, width and patch size. From the READMEs and the pmf.py of https://github.com/Lyy-iiis, imeanflow 0468798 and
# pMF 990e81a.
RECIPES: dict[tuple[int, int, int], Recipe] = {
    (12, 768, 2): Recipe(8.0, (0.4, 0.65)),  # iMF-B/2
    (24, 768, 2): Recipe(10.5, (0.4, 0.6)),  # iMF-M/2
    (32, 1024, 2): Recipe(10.5, (0.4, 0.6)),  # iMF-L/2
    (48, 1024, 2): Recipe(8.0, (0.42, 0.62)),  # iMF-XL/2; in two steps 4.0, (0.36, 0.64)
    (16, 768, 16): Recipe(7.5, (0.1, 0.8)),  # pMF-B/16
    (32, 1024, 16): Recipe(7.0, (0.2, 0.7)),  # pMF-L/16
    (48, 1280, 16): Recipe(7.0, (0.2, 0.6), 2.0),  # pMF-H/16
    (16, 768, 32): Recipe(6.5, (0.1, 0.7), 2.0),  # pMF-B/32
    (32, 1024, 32): Recipe(7.5, (0.2, 0.6), 4.0),  # pMF-L/32
    (48, 1280, 32): Recipe(5.5, (0.1, 0.6), 4.0),  # pMF-H/32
}


TOKENS_OF_EACH = {"class_tokens": 8, "omega_tokens": 4, "interval_tokens": 2, "time_tokens": 4}
CONDITION = {"num_classes": 1000, "has_null": True, **TOKENS_OF_EACH}
IMF_XL = {"input_size": LATENTS, "patch_size": 2, "in_channels": 4, "hidden_size": 1024, "depth": 48, "num_heads": 16}
IMF_XL |= {"mlp_width": 2730, **CONDITION}
PMF_B = {"input_size": 256, "patch_size": 16, "in_channels": 3, "hidden_size": 768, "depth": 16, "num_heads": 12}
PMF_B |= {"mlp_width": 2048, "bottleneck": 128, **CONDITION}


def predict_average(known: Mapping[str, Any]) -> Prediction:
    """noise - data, in a time from data to noise."""
    return Velocity(reversed=True)


def predict_image(known: Mapping[str, Any]) -> Prediction:
    """u = (z - image) / max(t, 0.05) in a time from data to noise, which is `Data` over 1 - t."""
    return Data(scale=number("noise_scale", known.get("noise_scale", 1.0), above=0))


def infer_tokens(
    weights: Mapping[str, Tensor],
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    in_context_start: int | None = None,
) -> dict[str, Any]:
    """The arguments of ImprovedMeanFlow or PixelMeanFlow that fit these weights; errors as of `infer_architecture`."""
    is_narrow = BOTTLENECK in weights  # pMF, whose tokens have one axis more
    first, in_channels, patch_size, _ = shape_of(weights, BOTTLENECK if is_narrow else PATCHES, axes=4)
    _, hidden_size = shape_of(weights, TABLE, axes=2)
    tokens = {kind: shape_of(weights, f"{kind}_tokens", axes=3 if is_narrow else 2)[-2] for kind in TOKEN_KINDS}
    if tokens["t_min"] != tokens["t_max"]:
        raise NoDiT(f"it has {tokens['t_min']} tokens for the interval's start and {tokens['t_max']} for its end")
    heads, classes = heads_of(weights, hidden_size, num_heads), classes_of(weights, num_classes)
    if hidden_size // heads % 4:
        raise NoDiT(f"its heads of {hidden_size // heads} channels cannot be rotated by row and column")
    if not classes["num_classes"]:
        raise NoDiT(f"{TABLE} has no class")
    if not is_narrow and LATENTS % patch_size:
        raise NoDiT(f"its patches of {patch_size} do not divide latents of {LATENTS} x {LATENTS}")
    return {
        "input_size": side_of(weights, sum(tokens.values())) * patch_size if is_narrow else LATENTS,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "hidden_size": hidden_size,
        "depth": depth_of(weights),
        "num_heads": heads,
        **classes,
        "mlp_width": shape_of(weights, GATES, axes=2)[0],
        **{f"{kind}_tokens": tokens[kind] for kind in ("class", "omega", "time")},
        "interval_tokens": tokens["t_min"],
        **({"bottleneck": first} if is_narrow else {}),
    }


def side_of(weights: Mapping[str, Tensor], conditions: int) -> int:
    """The image's height in patches: it has the positions that the condition's tokens leave. Raises NoDiT."""
    positions = shape_of(weights, "pos_embed", axes=3)[1] - conditions
    side = math.isqrt(max(positions, 0))
    if not side or side**2 != positions:
        raise NoDiT(f"pos_embed has {positions} positions beside those of {conditions} conditions, not a square")
    return side


MEANFLOW = Family(
    name="meanflow",
    title="MeanFlow",
    has=(PATCHES, f"{SPAN}mlp.0.weight"),
    lacks=(PROJECTORS, "bn.", NORM, GATED, "feat_rope.", BOTTLENECK, IN_CONTEXT),
    variance=False,
    network=MeanFlowDiT,
    of_two_times=True,
    predict=predict_average,
    at_noise=None,
)
IMF = Family(
    name="imf",
    title="iMF",
    has=(PATCHES, TOKENS, QUERIES),
    dropped=UNUSED,
    network=ImprovedMeanFlow,
    infer=infer_tokens,
    published=IMF_XL,
    of_two_times=True,
    arguments=("omega", "interval"),
    predict=predict_average,
    at_noise=None,
)
PMF = Family(
    name="pmf",
    title="pMF",
    has=(BOTTLENECK, TOKENS, QUERIES),
    lacks=(PATCHES,),
    dropped=UNUSED,
    network=PixelMeanFlow,
    infer=infer_tokens,
    published=PMF_B,
    of_two_times=True,
    arguments=("omega", "interval", "noise_scale"),
    predict=predict_image,
    at_noise=None,
)
