"""The arguments of DiT that fit a checkpoint's weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from ditexp.checks import whole
from ditexp.model.layers import BlockOptions
from ditexp.model.positions import Rope

# No shape tells the number of heads, unless there are norms of heads or tables of rotations. The widths of published
# models: DiT-S, B, L, XL; JiT-H; LightningDiT-1p0B and 1p6B.
HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16, 1280: 16, 1536: 24, 1792: 28}
IN_CONTEXT_STARTS = {768: 4, 1024: 8, 1280: 10}  # of JiT-B, L and H: nothing in a file tells it
MAX_BLOCKS = 1000
PATCHES = "x_embedder.proj.weight"
BOTTLENECK = "x_embedder.proj1.weight"
ROTATIONS = "feat_rope.freqs_cos"
HEAD = "final_layer.linear.weight"
TABLE = "y_embedder.embedding_table.weight"
FC1 = "blocks.0.mlp.fc1.weight"
QK_NORM, QK_BIAS = "blocks.0.attn.q_norm.weight", "blocks.0.attn.q_norm.bias"


class NoDiT(ValueError):
    """Weights that no DiT has. The message follows the file's name, and begins with what is wrong."""


def infer_architecture(
    weights: Mapping[str, Tensor],
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    in_context_start: int | None = None,
    rms: str = "rms",
    rope: bool = False,
    float32_logits: bool = False,
) -> dict[str, Any]:
    """The arguments of DiT that fit these weights, without options that have their defaults.

    num_heads, num_classes, in_context_start: None to take what the weights or the published sizes say. rms, rope,
    float32_logits: what the family knows; see DiT. Raises NoDiT if the weights contradict each other, ValueError for a
    wrong or missing setting.
    """
    is_gated = "blocks.0.mlp.w12.weight" in weights
    first, in_channels, patch_size, _ = shape_of(weights, BOTTLENECK if BOTTLENECK in weights else PATCHES, axes=4)
    _, tokens, hidden_size = shape_of(weights, "pos_embed", axes=3)
    modulation, _ = shape_of(weights, "blocks.0.adaLN_modulation.1.weight", axes=2)
    hidden, _ = shape_of(weights, "blocks.0.mlp.w12.weight" if is_gated else FC1, axes=2)
    hidden //= 2 if is_gated else 1
    side = math.isqrt(tokens)
    if side**2 != tokens:
        raise NoDiT(f"pos_embed has {tokens} positions, which is not a square")
    if hidden_size % 4:
        raise NoDiT(f"its width of {hidden_size} is not a multiple of 4")
    found = {
        "input_size": side * patch_size,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "hidden_size": hidden_size,
        "depth": depth_of(weights),
        "num_heads": heads_of(weights, hidden_size, num_heads),
        **classes_of(weights, num_classes),
        "mlp_ratio": hidden / hidden_size,
        "learn_sigma": out_channels_of(weights, in_channels, patch_size) != in_channels,
    }
    others = {
        "options": BlockOptions(
            norm=rms if "blocks.0.norm1.weight" in weights else "layer",
            qk_norm=None if QK_NORM not in weights else "layer" if QK_BIAS in weights else rms,
            mlp="swiglu" if is_gated else "gelu",
            shifts=modulation != 4 * hidden_size,
            float32_logits=float32_logits,
        ),
        "rope": rope or ROTATIONS in weights,
        "bottleneck": first if BOTTLENECK in weights else None,
        **in_context_of(weights, hidden_size, in_context_start),
    }
    return found | {key: value for key, value in others.items() if value and value != BlockOptions()}


def shape_of(weights: Mapping[str, Tensor], key: str, *, axes: int) -> tuple[int, ...]:
    """The shape of a weight. Raises NoDiT if there is none, or if it has no numbers or another number of axes."""
    if key not in weights:
        raise NoDiT(f"it has no {key!r} (it has {', '.join(list(weights)[:3])})")
    if weights[key].dim() != axes:
        raise NoDiT(f"{key} is {tuple(weights[key].shape)}, which are not {axes} axes")
    if not weights[key].numel():
        raise NoDiT(f"{key} is {tuple(weights[key].shape)}, without numbers")
    return tuple(weights[key].shape)


def out_channels_of(weights: Mapping[str, Tensor], in_channels: int, patch_size: int) -> int:
    """The channels of the head: those of the input, or twice as many with a variance. Raises NoDiT."""
    rows, _ = shape_of(weights, HEAD, axes=2)
    channels, rest = divmod(rows, patch_size**2)
    if rest or channels not in (in_channels, 2 * in_channels):
        shape = tuple(weights[HEAD].shape)
        raise NoDiT(f"{HEAD} is {shape}: not {in_channels} or {2 * in_channels} channels in patches of {patch_size}")
    return channels


def depth_of(weights: Iterable[str]) -> int:
    """The number of blocks, which must be numbered from 0 without gaps, and not too many to build. Raises NoDiT."""
    found = {key.split(".")[1] for key in weights if key.startswith("blocks.")}
    if len(found) > MAX_BLOCKS:
        raise NoDiT(f"it has keys of {len(found):,} blocks; {MAX_BLOCKS:,} is the most")
    expected = [str(number) for number in range(len(found))]
    if missing := next((number for number in expected if number not in found), None):
        other = min(found.difference(expected))
        raise NoDiT(f"it has a key blocks.{other[:20]}, but no blocks.{missing}")
    return len(found)


def heads_of(weights: Mapping[str, Tensor], hidden_size: int, given: int | None, key: str | None = None) -> int:
    """The number of heads. key: of a weight as wide as a head, if there is one; None: a norm's or a table of rotations.

    Raises ValueError if it is wrong or cannot be known, NoDiT if it is no whole number.
    """
    key = key or (QK_NORM if QK_NORM in weights else ROTATIONS)
    known = None
    if key in weights:
        width = weights[key].shape[-1] if weights[key].dim() else 0
        if not width or hidden_size % width:
            raise NoDiT(f"{key} is {tuple(weights[key].shape)}, but the width of {hidden_size} is no multiple of that")
        known = hidden_size // width
    heads = given if given is not None else known or HEADS.get(hidden_size)
    if heads is None:
        raise ValueError(f"model.num_heads is needed: no published model has the width {hidden_size}")
    whole("model.num_heads", heads, minimum=1)
    if hidden_size % heads:
        raise ValueError(f"model.num_heads={heads}: the width of {hidden_size} is no multiple of it")
    if known and heads != known:
        raise ValueError(f"model.num_heads={heads}, but {key} is {tuple(weights[key].shape)}: there are {known}")
    return heads


def classes_of(weights: Mapping[str, Tensor], given: int | None) -> dict[str, Any]:
    """num_classes, and whether the last row of the label table is the null class. Raises ValueError or NoDiT."""
    rows = shape_of(weights, TABLE, axes=2)[0] if TABLE in weights else 0
    classes = max(0, rows - 1) if given is None else whole("model.num_classes", given, minimum=0)
    if rows not in (classes, classes + 1):
        raise ValueError(f"model.num_classes={classes}, but there are {rows} label embeddings")
    return {"num_classes": classes, "has_null": rows > classes}


def in_context_of(weights: Mapping[str, Tensor], hidden_size: int, given: int | None) -> dict[str, int]:
    """How many in-context tokens there are, and before which block they join. Raises ValueError."""
    if "in_context_posemb" not in weights:
        if given is not None:
            raise ValueError(f"model.in_context_start={given}, but there is no in_context_posemb: leave it null")
        return {}
    start = IN_CONTEXT_STARTS.get(hidden_size) if given is None else given
    if start is None:
        raise ValueError(
            f"model.in_context_start is needed: the block that in-context tokens join before, which is unknown for the "
            f"width {hidden_size}"
        )
    whole("model.in_context_start", start, minimum=0, maximum=depth_of(weights) - 1)
    tokens = weights["in_context_posemb"].shape
    if len(tokens) != 3 or not tokens[1]:
        raise NoDiT(f"in_context_posemb is {tuple(tokens)}, not (1, tokens, {hidden_size})")
    return {"in_context_tokens": tokens[1], "in_context_start": start}


def holds(table: Tensor, values: Tensor) -> bool:
    """Whether a table in a file has these cosines and sines. bfloat16 keeps them to 0.002; others differ by 1."""
    if table.shape != values.shape or table.is_complex() != values.is_complex():
        return False
    if not table.is_complex() and not table.is_floating_point():
        return False
    return bool((table - values).abs().max() < 0.01)  # false for NaN


def check_rotations(weights: Mapping[str, Tensor], name: str, expected: Rope, side: int) -> None:
    """Raise NoDiT if a file has a table of rotations, `<name>.freqs_cos` and `_sin`, other than the expected."""
    for key, values in zip((f"{name}.freqs_cos", f"{name}.freqs_sin"), expected):
        if not holds(weights.get(key, values), values):
            raise NoDiT(f"{key} holds other rotations than those of its {side} x {side} patches")
