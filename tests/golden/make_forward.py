"""Writes what the original networks of published models compute, with drawn weights, for tests/model/test_families.py.

    python -m tests.golden.make_forward sit|dit|repa|lightningdit|jit|rae|ddt /path/to/the/original/repository [commit]

The commit is needed only where the folder is no checkout. What the repository imports (timm, einops, fairscale) must be
importable. Everything runs on the CPU in float32.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.golden.files import FOLDER, write_golden
from tests.golden.weights import drawn_like, noise

COMMON = {"patch_size": 2, "in_channels": 4, "depth": 2, "num_classes": 10}
NARROW = {**COMMON, "input_size": 8, "hidden_size": 48, "num_heads": 4}  # heads that no table gives
WIDE = {**COMMON, "input_size": 6, "hidden_size": 384, "num_heads": 6, "depth": 1}  # heads that the width gives
LIGHTNING = {**NARROW, "patch_size": 1, "in_channels": 8, "input_size": 4}
LIGHTNING_XL = {**LIGHTNING, "use_swiglu": True, "use_rope": True, "use_rmsnorm": True}  # the published options
REPA = {"encoder_depth": 1, "z_dims": [12], "projector_dim": 16}
JIT = {"in_channels": 3, "num_classes": 10, "hidden_size": 48, "depth": 4, "num_heads": 3, "bottleneck_dim": 8}
DDT = {"patch_size": 2, "in_channels": 4, "num_blocks": 4, "num_encoder_blocks": 2, "num_classes": 10}
RAE = {"input_size": 4, "in_channels": 8, "num_classes": 10, "hidden_size": [48, 64], "depth": [2, 2]}
CASES: dict[str, dict[str, dict[str, Any]]] = {
    "sit": {
        "narrow": {**NARROW, "learn_sigma": True},
        "wide": {**WIDE, "learn_sigma": True},
        "four channels": {**NARROW, "learn_sigma": False},
    },
    "dit": {"narrow": NARROW, "wide": {**WIDE, "patch_size": 1, "input_size": 3}},
    "repa": {
        "narrow": {**NARROW, **REPA, "decoder_hidden_size": 48, "qk_norm": False},
        "qk-norm": {**NARROW, **REPA, "decoder_hidden_size": 48, "qk_norm": True},
        "wide": {**WIDE, **REPA, "decoder_hidden_size": 384, "qk_norm": False},
    },
    "lightningdit": {
        "published options": LIGHTNING_XL,
        "qk-norm": {**LIGHTNING_XL, "use_qknorm": True},
        "without shifts": {**LIGHTNING_XL, "wo_shift": True},
        "without swiglu": {**LIGHTNING_XL, "use_swiglu": False, "patch_size": 2},
        "without rmsnorm": {**LIGHTNING_XL, "use_rmsnorm": False, "use_qknorm": True},
        "without rope": {**LIGHTNING_XL, "use_rope": False, "input_size": 3},
    },
    "jit": {
        "narrow": {**JIT, "input_size": 12, "patch_size": 4, "in_context_len": 4, "in_context_start": 2},
        "other heads": {**JIT, "input_size": 16, "patch_size": 4, "in_context_len": 3, "in_context_start": 1}
        | {"num_heads": 4, "noise_scale": 2.0},
        "patches of 32": {**JIT, "input_size": 64, "patch_size": 32, "in_context_len": 32, "in_context_start": 3},
    },
    "ddt": {
        "narrow": {**DDT, "input_size": 8, "hidden_size": 48, "num_groups": 3},
        "larger images": {**DDT, "input_size": 12, "hidden_size": 48, "num_groups": 3},
        "wide": {**DDT, "input_size": 6, "hidden_size": 96, "num_groups": 4, "num_blocks": 3},
        "patches of 1": {**DDT, "input_size": 5, "hidden_size": 64, "num_groups": 2, "patch_size": 1},
    },
    "rae": {
        "narrow": {**RAE, "num_heads": [4, 4]},
        "other heads": {**RAE, "num_heads": [2, 8], "depth": [3, 1]},
        "wide": {**RAE, "hidden_size": [384, 96], "num_heads": [6, 3], "depth": [1, 1], "input_size": 3},
    },
}
# Pairs of rows, with a label and without, at the same time.
TIMES = {"dit": [0, 0, 500, 500, 999, 999, 123.4], "jit": [0, 0, 0.5, 0.5, 0.97, 0.97, 1]}
FLOW_TIMES = [0, 0, 0.5, 0.5, 1, 1, 0.37]
LABELS = [1, 10, 2, 10, 3, 10, 9]  # 10 is the null class


def original(family: str, options: dict[str, Any]) -> nn.Module:
    """The original network."""
    if family in ("sit", "dit"):
        return vars(importlib.import_module("models"))[{"sit": "SiT", "dit": "DiT"}[family]](**options)
    if family == "repa":
        module = importlib.import_module("models.sit")
        module.Attention = functools.partial(module.Attention, norm_layer=nn.LayerNorm)  # timm's default once
        return module.SiT(**options)
    if family == "ddt":
        arguments = {key: value for key, value in options.items() if key != "input_size"}
        return importlib.import_module("src.models.denoiser.decoupled_improved_dit").DDT(**arguments)
    if family == "lightningdit":
        return importlib.import_module("models.lightningdit").LightningDiT(**options)
    if family == "rae":
        return importlib.import_module("stage2.models.DDT").DiTwDDTHead(**options)
    return importlib.import_module("model_jit").JiT(**{k: v for k, v in options.items() if k != "noise_scale"})


def jit_velocity(network: nn.Module, options: dict[str, Any], z: Tensor, t: Tensor, labels: Tensor) -> Tensor:
    """The velocity of z that JiT's sampler takes, at cfg 1."""
    module = importlib.import_module("denoiser")
    module.JiT_models["golden"] = lambda **_: network
    settings = {"model": "golden", "img_size": options["input_size"], "class_num": options["num_classes"]}
    settings |= {"attn_dropout": 0, "proj_dropout": 0, "label_drop_prob": 0.1, "P_mean": -0.8, "P_std": 0.8}
    settings |= {"t_eps": 0.05, "noise_scale": options.get("noise_scale", 1.0), "ema_decay1": 0.9999}
    settings |= {"ema_decay2": 0.9996, "sampling_method": "heun", "num_sampling_steps": 50, "cfg": 1.0}
    settings |= {"interval_min": 0.1, "interval_max": 1.0}
    denoiser = module.Denoiser(argparse.Namespace(**settings))
    return denoiser._forward_sample(z, t.view(-1, 1, 1, 1), labels)


@torch.no_grad()
def make(family: str, repository: Path, commit: str) -> None:
    cases, outputs = {}, {}
    for name, options in CASES[family].items():
        network = original(family, options).eval()
        state = drawn_like(network.state_dict())
        network.load_state_dict(state)
        shape = (len(LABELS), options["in_channels"], options["input_size"], options["input_size"])
        x, labels = noise(name, shape), torch.tensor(LABELS)
        t = torch.tensor(TIMES.get(family, FLOW_TIMES), dtype=torch.float32)
        output = network(x, t, labels)
        every = {64: 7, 16: 3}.get(options["input_size"], 1)  # a pixel of so many is kept, in rows and columns
        outputs[f"{name}: output"] = (output[0] if isinstance(output, tuple) else output)[..., ::every, ::every]
        if family == "jit":
            outputs[f"{name}: velocity"] = jit_velocity(network, options, x, t, labels)[..., ::every, ::every]
        shapes = {key: list(value.shape) for key, value in state.items()}
        cases[name] = {"options": options, "shapes": shapes, "times": t.tolist(), "labels": LABELS, "every": every}
    path = FOLDER / family / "forward.npz"
    found = {key: value.contiguous() for key, value in outputs.items()}
    write_golden(path, repository, {"cases": cases}, found, commit=commit)


def main() -> None:
    family, repository, commit = sys.argv[1], Path(sys.argv[2]), "".join(sys.argv[3:])
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # LightningDiT and JiT compile as they are imported
    warnings.filterwarnings("ignore")
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor  # JiT makes its tables on a GPU
    sys.path[:0] = [str(repository), str(repository / "src")]  # RAE's code is in the latter
    make(family, repository, commit)


if __name__ == "__main__":
    main()
