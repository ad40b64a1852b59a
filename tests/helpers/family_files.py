"""Checkpoints of the published families, each in its own format, with random weights and few of them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ditexp.model.ddt import DDT
from ditexp.model.dit import DiT
from ditexp.model.dit_dh import Blocks, DiTDH
from ditexp.model.flow_map_network import FlowMapNetwork
from ditexp.model.improved_mean_flow import ImprovedMeanFlow, PixelMeanFlow
from ditexp.model.layers import BlockOptions
from ditexp.model.mean_flow import MeanFlowDiT
from ditexp.model.positions import image_rope

SIZES: dict[str, Any] = {"hidden_size": 384, "depth": 1, "num_heads": 6, "num_classes": 5}
LATENTS = {"input_size": 4, "patch_size": 2, "in_channels": 4}
NETWORKS: dict[str, dict[str, Any]] = {
    "sit": {**LATENTS, "learn_sigma": True},
    "dit": {**LATENTS, "learn_sigma": True},
    "repa": LATENTS,
    "repa_e": LATENTS,
    "lightningdit": {
        "input_size": 2,
        "patch_size": 1,
        "in_channels": 32,
        "rope": True,
        "options": BlockOptions(norm="rms", mlp="swiglu"),
    },
    "jit": {
        "input_size": 8,
        "patch_size": 4,
        "in_channels": 3,
        "rope": True,
        "bottleneck": 8,
        "options": BlockOptions(norm="rms_float32", qk_norm="rms_float32", mlp="swiglu", float32_logits=True),
        "in_context_tokens": 4,
        "in_context_start": 0,
    },
    "ddt": {**LATENTS, "depth": 2, "encoder_depth": 1, "mlp_width": 1024},
}
RAE: dict[str, Any] = {
    "input_size": 4,
    "in_channels": 8,
    "trunk": Blocks(width=384, depth=2, num_heads=6, mlp_ratio=1.0),
    "head": Blocks(width=64, depth=1, num_heads=2, mlp_ratio=1.0),
    "num_classes": 5,
}
FAMILIES = (*NETWORKS, "rae")

IN_CONTEXT: dict[str, Any] = {"has_null": True, "mlp_width": 64, "class_tokens": 2, "omega_tokens": 1}
IN_CONTEXT |= {"interval_tokens": 1, "time_tokens": 1}
FLOW_MAPS: dict[str, tuple[type[FlowMapNetwork], dict[str, Any]]] = {
    "meanflow": (MeanFlowDiT, LATENTS),
    "imf": (ImprovedMeanFlow, {**IN_CONTEXT, "input_size": 32, "patch_size": 16, "in_channels": 4}),
    "pmf": (PixelMeanFlow, {**IN_CONTEXT, "input_size": 8, "patch_size": 4, "in_channels": 3, "bottleneck": 8}),
}


def family_state(family: str, **changes: Any) -> dict[str, Tensor]:
    """The tensors of a network of this family by its own names, with weights everywhere."""
    torch.manual_seed(0)
    others: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]]
    others = {"ddt": (DDT, {**SIZES, **NETWORKS["ddt"]}), "rae": (DiTDH, RAE)}
    others |= {name: (kind, {**SIZES, **options}) for name, (kind, options) in FLOW_MAPS.items()}
    kind, options = others.get(family) or (DiT, {**SIZES, **NETWORKS[family]})
    network = kind(**{**options, **changes})
    for name, parameter in network.named_parameters():
        if name != "pos_embed":
            torch.nn.init.normal_(parameter, std=0.02)
    return network.state_dict()


def save_family(path: Path, family: str, **changes: Any) -> Path:
    """A file as the family's authors publish it: bare, or beside what training needs."""
    state: dict[str, Any] = family_state(family, **changes)
    if family == "repa":
        state |= {f"projectors.0.{layer}.weight": torch.zeros(3, 3) for layer in (0, 2, 4)}
    if family == "repa_e":
        state |= {"bn.running_mean": torch.zeros(4), "bn.running_var": torch.ones(4)}
        state |= {"bn.num_batches_tracked": torch.tensor(3)}
        state = {"model": moved(state, 1), "ema": state, "vae": {"decoder.conv_in.weight": torch.zeros(3, 4, 3, 3)}}
    if family == "ddt":
        networks = {f"denoiser.{name}": value for name, value in moved(state, 0.01).items()}
        networks |= {f"ema_denoiser.{name}": value for name, value in state.items()}
        state = {"state_dict": {**networks, "diffusion_trainer.proj.0.weight": torch.zeros(3, 3)}, "global_step": 9}
    if family == "lightningdit":
        cos, sin = image_rope(2, 2, trained_side=2, head_width=64, device=torch.device("cpu"))
        state |= {"feat_rope.freqs_cos": cos, "feat_rope.freqs_sin": sin}
        state = {"model": moved(state, 0.01), "ema": state, "config": {"model": {"model_type": "LightningDiT-XL/1"}}}
    if family == "jit":
        own = {f"net.{name}": value for name, value in state.items()}
        averages = {"model_ema1": own, "model_ema2": moved(own, 0.01)}
        arguments = argparse.Namespace(model="JiT-B/16", img_size=8, noise_scale=1.0)
        state = {"model": moved(own, 0.02), **averages, "epoch": 599, "args": arguments}
    if family == "rae":
        for name, head_width in (("enc_feat_rope", 64), ("dec_feat_rope", 32)):
            cos, sin = image_rope(4, 4, trained_side=4, head_width=head_width, device=torch.device("cpu"))
            state |= {f"{name}.freqs_cos": cos, f"{name}.freqs_sin": sin}
        state = {"step": 3, "epoch": 0, "model": moved(state, 0.01), "ema": state, "scheduler": None}
    if family == "meanflow":
        state = {"model": moved(state, 0.01), "ema": state, "opt": {}, "steps": 400_000}
    if family in ("imf", "pmf"):
        state = {f"net.{flax_name(name, value)}": value for name, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, path)
    return path


def flax_name(name: str, value: Tensor) -> str:
    """The name in files of iMF and pMF. The only block is one of the head, and matrices are wrapped."""
    name = name.replace("blocks.", "u_heads.")
    is_table, is_matrix = "embedding_table" in name, value.dim() == 2 and name.endswith("weight")
    is_bias = name.endswith(("mlp.0.bias", "mlp.2.bias", "linear.bias"))
    parent, _, last = name.rpartition(".")
    return f"{parent}._flax_{'embedding' if is_table else 'linear'}.{last}" if is_matrix or is_bias else name


def moved(state: dict[str, Tensor], by: float) -> dict[str, Tensor]:
    """Other weights of the same names, as averages have."""
    return {name: value + by for name, value in state.items()}
