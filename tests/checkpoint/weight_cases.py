"""Checkpoints whose weights have other names, shapes, types or layouts than the network's; and settings beside them."""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from tests.checkpoint.cases import HEAD, PROJECTION, Cases, a_file, accepted, as_torch, refused, weights, with_weight

TABLE = "y_embedder.embedding_table.weight"
HOSTILE = "\x1b[2J\u202e\n" + "a" * 500


def renamed(old: str, new: str) -> dict:
    return {key.replace(old, new): value for key, value in weights().items()}


def without(key: str) -> dict:
    return {name: value for name, value in weights().items() if name != key}


def prefixed(prefix: str, factor: float = 1) -> dict:
    return {prefix + key: factor * value for key, value in weights().items()}


def names() -> Cases:
    lacking = (PROJECTION, HEAD, "pos_embed", "x_embedder.proj.weight", "blocks.0.mlp.fc1.weight")
    lacking += ("t_embedder.mlp.0.bias", "final_layer.adaLN_modulation.1.weight", "blocks.0.adaLN_modulation.1.weight")
    made: Cases = {f"without {key}": refused(as_torch(lambda key=key: without(key))) for key in lacking}
    more = ("blocks.100000.x", "blocks.3.x", "blocks.-1.x", "blocks.1e3.x", "blocks.x", "blocks.", "x", HOSTILE)
    more += ("blocks.0.attn.proj.weight.more", "blocks.00.x", "blocks.\u0661.x", "a" * 100_000, "", "cls_token")
    made |= {f"with {key[:20]!r}": refused(with_weight(lambda: torch.zeros(1), key)) for key in more}
    many = {f"blocks.{n}.x": torch.zeros(1) for n in range(2, 5000)}
    hostile = {f"{HOSTILE}{n}": torch.zeros(1) for n in range(50)}
    numbers = dict(enumerate(weights().values()))
    return made | {
        "without classes": accepted(as_torch(lambda: without(TABLE))),
        "without any block": refused(as_torch(lambda: {k: v for k, v in weights().items() if "blocks" not in k})),
        "blocks from 1 on": refused(as_torch(lambda: renamed("blocks.1.", "blocks.2."))),
        "5,000 blocks": refused(as_torch(lambda: weights() | many), "5,000 blocks"),
        "50 hostile names": refused(as_torch(lambda: weights() | hostile)),
        "hostile names alone": refused(as_torch(lambda: hostile)),
        "a hostile dictionary": refused(as_torch(lambda: {HOSTILE: {HOSTILE: 1}})),
        "a hostile prefix": accepted(as_torch(lambda: prefixed("\x1b\n\u202e."))),
        "two hostile prefixes": refused(as_torch(lambda: prefixed("\x1b\n\u202e.") | prefixed(f"{HOSTILE}.", 2))),
        "capitals": refused(as_torch(lambda: {key.upper(): value for key, value in weights().items()})),
        "fc1 as up_proj": refused(as_torch(lambda: renamed("fc1", "up_proj"))),
        "numbers as names": refused(as_torch(lambda: numbers)),
        "a hostile block": refused(with_weight(lambda: torch.zeros(1), f"blocks.{HOSTILE}.x")),
        "a hostile projector": refused(with_weight(lambda: torch.zeros(1), f"projectors.{HOSTILE}.x")),
        "a number among names": refused(as_torch(lambda: weights() | {7: torch.zeros(1)}), "7", "not text"),
        "bytes among names": refused(as_torch(lambda: weights() | {b"x": torch.zeros(1)}), "not text"),
        "one name twice": refused(as_torch(lambda: prefixed("module.") | weights()), "twice"),
        "two networks": refused(as_torch(lambda: {"a": weights(), "b": prefixed("", 2)}), "several networks"),
        "100 dictionaries deep": refused(as_torch(lambda: deep(100))),
        "nothing": refused(as_torch(dict), "no state dict"),
        "a number": refused(as_torch(lambda: 5), "no state dict"),
        "a list": refused(as_torch(lambda: [weights()]), "no state dict"),
        "of another network": refused(as_torch(lambda: nn.Linear(3, 2).state_dict()), "it has weight, bias"),
    }


def deep(depth: int) -> dict:
    found: dict[str, Any] = weights()
    for _ in range(depth):
        found = {"state": found}
    return found


def shapes() -> Cases:
    def both(key: str, shape: tuple[int, ...]) -> Cases:
        """The refusal names the weight with the shape that it has and the one that it should have."""
        words = (key, str(shape), str(tuple(weights()[key].shape)))
        return {f"{key} of {shape}": refused(with_weight(lambda: torch.zeros(shape), key), *words)}

    made: Cases = {}
    for key, shape in (
        (PROJECTION, (7, 7)),
        (PROJECTION, (24,)),
        (PROJECTION, ()),
        (PROJECTION, (0, 24)),
        (PROJECTION, (1, 1, 24, 24)),
        ("blocks.0.attn.qkv.weight", (24, 72)),
        ("blocks.1.attn.qkv.bias", (71,)),
        ("blocks.1.mlp.fc1.weight", (95, 24)),
        ("blocks.1.mlp.fc2.weight", (96, 24)),
        ("blocks.1.adaLN_modulation.1.weight", (96, 24)),
        ("t_embedder.mlp.0.weight", (24, 512)),
        ("final_layer.adaLN_modulation.1.weight", (48, 25)),
        ("final_layer.linear.bias", (3,)),
        ("x_embedder.proj.bias", (25,)),
    ):
        made |= both(key, shape)
    for key, shape, word in (
        ("pos_embed", (1, 7, 24), "pos_embed has 7"),
        ("pos_embed", (1, 9, 25), "width of 25"),
        ("blocks.0.mlp.fc1.weight", (97, 24), "(97,)"),
    ):
        made[f"{key} of {shape}"] = refused(with_weight(lambda shape=shape: torch.zeros(shape), key), word)
    for key, shape in (
        ("pos_embed", (1, 0, 24)),
        ("pos_embed", (9,)),
        ("x_embedder.proj.weight", (24, 3, 0, 0)),
        ("x_embedder.proj.weight", (24, 3, 2, 3)),
        ("x_embedder.proj.weight", (0, 3, 2, 2)),
        ("x_embedder.proj.weight", (24, 12)),
        ("x_embedder.proj.weight", (25, 3, 2, 2)),
        (HEAD, (13, 24)),
        (HEAD, (0, 24)),
        (HEAD, ()),
        (TABLE, (0, 24)),
        (TABLE, (6, 23)),
        (TABLE, ()),
        ("blocks.0.mlp.fc1.weight", (0, 24)),
        ("blocks.0.mlp.fc1.weight", ()),
        ("blocks.0.adaLN_modulation.1.weight", (95, 24)),
    ):
        make = with_weight(lambda shape=shape: torch.zeros(shape), key)
        made[f"{key} of {shape}"] = refused(make, str(shape))
    return made


def types() -> Cases:
    def projection(change: Callable[[torch.Tensor], object]) -> Callable[[], object]:
        return lambda: change(weights()[PROJECTION])

    types = (torch.int8, torch.int32, torch.int64, torch.bool, torch.uint8, torch.uint16, torch.uint64)
    types += (torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2)
    made: Cases = {
        str(dtype): refused(with_weight(projection(lambda value, dtype=dtype: value.to(dtype))), PROJECTION)
        for dtype in types
    }
    whole: Cases = {
        f"all of {dtype}": accepted(as_torch(lambda dtype=dtype: {k: v.to(dtype) for k, v in weights().items()}))
        for dtype in (torch.float16, torch.bfloat16, torch.float64)
    }
    unusable = {
        "sparse": lambda value: value.to_sparse(),
        "sparse, in rows": lambda value: value.to_sparse_csr(),
        "quantized": lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
        "quantized by channel": lambda value: torch.quantize_per_channel(
            value, torch.ones(24), torch.zeros(24, dtype=torch.int64), 0, torch.qint8
        ),
        "of no values": lambda value: value.to("meta"),
        "of a class of its own": lambda value: value.as_subclass(OfItsOwn),
    }
    for name, change in unusable.items():
        is_plain = name == "of a class of its own"
        make = with_weight(projection(change))
        made[name] = accepted(make) if is_plain else refused(make, PROJECTION)
    others = {
        "an array of NumPy": lambda value: value.numpy(),
        "a list": lambda value: value.tolist(),
        "a number": lambda value: 1.5,
        "a text": lambda value: "weights",
        "None": lambda value: None,
        "one column, repeated": lambda value: value[:, :1].clone().expand(24, 24),
    }
    made |= {name: refused(with_weight(projection(change))) for name, change in others.items()}
    works = {
        "a parameter": lambda value: nn.Parameter(value),
        "transposed in memory": lambda value: value.t().contiguous().t(),
        "a part of a larger tensor": lambda value: torch.zeros(50, 24)[3:27],
        "mixed with float16": lambda value: value.half(),
        "mixed with float64": lambda value: value.double(),
        "NaN": lambda value: value * torch.nan,
        "infinite": lambda value: value.double() * 1e300,
    }
    made |= {name: accepted(with_weight(projection(change))) for name, change in works.items()}
    return made | whole


class OfItsOwn(torch.Tensor):
    pass


def shadow(factor: float = 2, *, keys: Callable[[str], bool] = lambda key: key != "pos_embed") -> list:
    return [factor * value for key, value in weights().items() if keys(key)]


def layouts() -> Cases:
    """Layouts of published checkpoints; all work."""
    args = argparse.Namespace(model="SiT-XL/2", lr=np.float64(1e-4), seed=np.int64(0), dtype=torch.float16)
    model, ema = weights(), prefixed("", 2)
    good: dict[str, Any] = {
        "bare": model,
        "an OrderedDict": OrderedDict(model),
        "SiT's": {"model": model, "ema": ema, "opt": {"state": {0: {"exp_avg": torch.zeros(9)}}}, "args": args},
        "JiT's": {"model": model, "model_ema1": ema, "model_ema2": prefixed("", 3), "epoch": 9, "args": args},
        "Lightning's": {"state_dict": prefixed("denoiser.") | prefixed("ema_denoiser.", 2), "callbacks": {}},
        "RectifiedFlow's": {"model": prefixed("module."), "ema": {"decay": 0.9, "shadow_params": shadow()}},
        "flow_matching's": {
            "model": prefixed("model.")
            | {f"shadow_params.{n}": value for n, value in enumerate(shadow())}
            | {"num_updates": torch.tensor(5)}
        },
        "diffusers' average": {"model": model, "ema": {"shadow_params": shadow(keys=lambda key: True)}},
        **{f"prefixed {one}": prefixed(one) for one in ("module.", "_orig_mod.", "net.", "model.", "ema_denoiser.")},
        **{f"prefixed {one}": prefixed(one) for one in ("module._orig_mod.", "_orig_mod.module.model.net.")},
        "with a discriminator": {"state_dict": prefixed("model.") | {"loss.discriminator.weight": torch.zeros(3)}},
        "a random generator": {"model": model, "rng": np.random.default_rng(0), "cpu": torch.get_rng_state()},
    }
    made: Cases = {name: accepted(as_torch(lambda state=state: state)) for name, state in good.items()}
    both = as_torch(lambda: {"model": model, "ema": ema})
    several = as_torch(lambda: {"model": model, "model_ema1": ema, "model_ema2": prefixed("", 3)})
    made |= {f"{which} of two": accepted(both, weights=which) for which in ("model", "ema")}
    made |= {f"{which} of several": accepted(several, weights=which) for which in ("model", "ema1", "model_ema2")}
    made |= {
        "ema2 of two": refused(both, "has no weights 'ema2'", "model.weights=ema, model", weights="ema2"),
        "ema of none": refused(a_file, "model.weights=model", weights="ema"),
        "a hostile choice": refused(both, "model.weights=ema, model", weights=HOSTILE),
        "an average too short": refused(
            as_torch(lambda: {"model": model, "ema": {"shadow_params": shadow()[:-1]}}),
            "averaged weights without names",
        ),
        "an average of other shapes": refused(
            as_torch(lambda: {"model": model, "ema": {"shadow_params": shadow()[::-1]}}),
            "averaged weights without names",
        ),
    }
    return made


def settings() -> Cases:
    wrong: dict[str, dict[str, Any]] = {
        "-3 heads": {"num_heads": -3},
        "no heads": {"num_heads": 0},
        "5 heads": {"num_heads": 5},
        "1.5 heads": {"num_heads": 1.5},
        "heads in words": {"num_heads": "three"},
        "true heads": {"num_heads": True},
        "unknown heads": {"num_heads": None},
        "10^9 heads": {"num_heads": 10**9},
        "-1 classes": {"num_classes": -1},
        "99 classes": {"num_classes": 99},
        "an unknown family": {"family": "sora"},
        "no family": {"family": None},
        "JiT's family": {"family": "jit"},
        "LightningDiT's family": {"family": "lightningdit"},
        "DiT's family": {"family": "dit"},
        "a noise scale": {"noise_scale": 2.0},
        "an unknown path": {"path_type": "Crooked"},
    }
    made: Cases = {name: refused(a_file, **settings) for name, settings in wrong.items()}
    architectures = {"-3 heads": '{"num_heads": -3}', "heads in words": f'{{"num_heads": "{"three" * 1000}"}}'}
    architectures |= {
        "no JSON": "[",
        "brackets": "[" * 100_000,
        "a list": "[]",
        "hostile heads": json.dumps({"num_heads": HOSTILE}),
    }
    for name, text in architectures.items():
        facts = {"architecture": text, "class_names": "[]"}
        make = lambda path, facts=facts: path.write_bytes(save(weights(), facts))  # noqa: E731
        made[f"{name} in metadata"] = refused(make, num_heads=None)
    for name, args in {
        "a hostile path": {"path_type": HOSTILE},
        "a path of lists": {"path_type": [[[]]]},
        "a hostile prediction": {"prediction": HOSTILE * 100},
    }.items():
        made[f"{name} in args"] = refused(
            as_torch(lambda args=args: {"model": weights(), "args": argparse.Namespace(**args)})
        )
    return made


KINDS: dict[str, Callable[[], Cases]] = {
    "names": names,
    "shapes": shapes,
    "types": types,
    "layouts": layouts,
    "settings": settings,
}
