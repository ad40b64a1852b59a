"""Checkpoints with drawn weights, in the containers that published code writes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ditexp.model.positions import image_rope, sincos_position_embedding
from tests.golden.weights import draw, drawn

Shapes = Mapping[str, Sequence[int]]


def weights(shapes: Shapes, *, salt: str = "") -> dict[str, Tensor]:
    """The drawn weights of a network by its names, and what it computes itself: positions and rotations."""
    state = drawn(shapes, salt=salt)
    for key, shape in shapes.items():
        if key == "pos_embed":
            is_trained = "rope_freqs" in shapes  # pMF's
            side = round(shape[1] ** 0.5)
            state[key] = draw(key, shape) if is_trained else sincos_position_embedding(shape[2], side)
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(7)
        if "feat_rope." in key:
            side = round(shape[0] ** 0.5)
            tables = image_rope(side, side, trained_side=side, head_width=shape[1], device=torch.device("cpu"))
            state[key] = tables["cos" not in key]
        if key == "rope_freqs":
            side = round(shape[0] ** 0.5)
            tables = image_rope(side, side, trained_side=side, head_width=2 * shape[1], device=torch.device("cpu"))
            state[key] = torch.complex(*(table[:, ::2] for table in tables))
    return {key: state[key] for key in shapes}


def published(
    family: str, shapes: Shapes, *, vae: Mapping[str, Tensor] | None = None, **arguments: Any
) -> dict[str, Any]:
    """What the family's code saves. Weights that a paper doesn't sample from are others. arguments: of the training.

    vae: the weights that REPA-E trains with its network; None if it did not.
    """
    averaged, others = weights(shapes), weights(shapes, salt="others ")
    args = argparse.Namespace(epochs=1400, **arguments)
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}
    if family == "sit":
        return {"model": others, "ema": averaged, "opt": optimizer, "args": args}
    if family == "lightningdit":
        return {"ema": prefixed("module.", averaged), "config": {"transport": {"path_type": "Linear"}}}
    if family == "jit":
        averages = {"model_ema1": prefixed("net.", averaged), "model_ema2": prefixed("net.", others)}
        return {"model": prefixed("net.", others), **averages, "optimizer": optimizer, "epoch": 599, "args": args}
    if family == "ddt":
        networks = {**prefixed("denoiser.", others), **prefixed("ema_denoiser.", averaged)}
        state = {**networks, "diffusion_trainer.proj.0.weight": torch.zeros(3, 3)}
        return {"epoch": 7, "global_step": 9, "state_dict": state, "callbacks": {}, "optimizer_states": [optimizer]}
    if family == "repa_e":
        discriminator = {"main.0.weight": torch.zeros(3, 3)}
        trained = {"vae": vae, "discriminator": discriminator} if vae else {}
        return {"model": others, "ema": averaged, **trained, "opt": optimizer, "args": args, "steps": 9}
    if family == "rae":
        return {"step": 3, "epoch": 0, "model": others, "ema": averaged, "optimizer": optimizer, "scheduler": None}
    if family == "meanflow":
        return {"model": others, "ema": averaged, "opt": optimizer, "args": args, "steps": 400_000}
    if family in ("imf", "pmf"):
        return prefixed("net.", averaged)
    return averaged  # as DiT's and REPA's released files are


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: value for key, value in state.items()}


def published_file(path: Path, family: str, shapes: Shapes, **arguments: Any) -> str:
    torch.save(published(family, shapes, **arguments), path)
    return str(path)
