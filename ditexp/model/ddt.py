"""The Decoupled Diffusion Transformer (Wang et al. 2025, arXiv 2504.05741).

State-dict keys and arithmetic are those of the official checkpoints, which therefore load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.checks import whole
from ditexp.core import EncoderWalk, TransformerBlock, Walk
from ditexp.model.architecture import NoDiT, classes_of, depth_of, heads_of, shape_of
from ditexp.model.dit import Block
from ditexp.model.label_network import LabelNetwork
from ditexp.model.layers import Attention, BlockOptions, FinalLayer, LabelEmbedder, TimestepEmbedder
from ditexp.model.positions import Rope
from ditexp.values import required

OPTIONS = BlockOptions(norm="rms", qk_norm="rms")
ENCODER_DEPTHS = {(28, 1152): 22}  # of the published networks, by depth and width: nothing in a file tells it
IN_CHANNELS = 4  # nothing in a file tells them apart from the patch size
INPUT_SIZE = 32  # nothing in a file tells it; 64 at 512 pixels
LONGEST_PERIOD = 10  # of the sinusoids of time
LAST_POSITION = 16  # of rows and columns, whatever their number
W1 = "blocks.0.mlp.w1.weight"


class LinearPatchEmbed(nn.Module):
    """(B, C, H, W) -> (B, H W / p^2, D). The values of a patch are in the order of channel, row, column."""

    def __init__(self, in_channels: int, hidden_size: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Linear(in_channels * patch_size**2, hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(F.unfold(x, self.patch_size, stride=self.patch_size).transpose(1, 2))


class GatedMlp(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv 2002.05202) without biases, a matrix each for gates and values."""

    def __init__(self, hidden_size: int, width: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(hidden_size, width, bias=False)
        self.w3 = nn.Linear(hidden_size, width, bias=False)
        self.w2 = nn.Linear(width, hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class DDTBlock(Block):
    """A block whose condition c, (B, D) or (B, N, D), went through SiLU before."""

    def __init__(self, hidden_size: int, num_heads: int, mlp_width: int) -> None:
        super().__init__(hidden_size, num_heads, 1.0, OPTIONS)
        self.attn = Attention(hidden_size, num_heads, OPTIONS, qkv_bias=False)
        self.mlp = GatedMlp(hidden_size, mlp_width)
        self.adaLN_modulation = nn.Sequential(nn.Linear(hidden_size, 6 * hidden_size))


class DDT(LabelNetwork):
    """Velocity v(x, t, label) by an encoder, whose tokens modulate those of a decoder.

        s = silu(t + encoder(x, silu(t + label)))    v = decoder(x, s)

    DDT-XL/2 has width 1152, 28 blocks, 22 of them the encoder's, and 16 heads. It has no position embedding: queries
    and keys are rotated by positions from 0 to 16 in rows and columns, however many there are.
    """

    kind = "ddt"

    def __init__(
        self,
        *,
        input_size: int,
        patch_size: int,
        in_channels: int,
        hidden_size: int,
        depth: int,
        encoder_depth: int,
        num_heads: int,
        num_classes: int,
        has_null: bool = True,
        mlp_width: int,
    ) -> None:
        super().__init__()
        self.input_size, self.patch_size, self.in_channels = input_size, patch_size, in_channels
        self.hidden_size, self.head_width, self.encoder_depth = hidden_size, hidden_size // num_heads, encoder_depth
        self.num_classes, self.has_null = num_classes, has_null
        self.x_embedder = LinearPatchEmbed(in_channels, hidden_size, patch_size)
        self.s_embedder = LinearPatchEmbed(in_channels, hidden_size, patch_size)
        self.t_embedder = TimestepEmbedder(hidden_size, longest_period=LONGEST_PERIOD)
        self.y_embedder = LabelEmbedder(num_classes, hidden_size, has_null)
        self.blocks = nn.ModuleList(DDTBlock(hidden_size, num_heads, mlp_width) for _ in range(depth))
        self.final_layer = FinalLayer(hidden_size, patch_size, in_channels, "layer")
        self.final_layer.adaLN_modulation = nn.Sequential(nn.Linear(hidden_size, 2 * hidden_size))

    @property
    def parts(self) -> tuple[range, ...]:
        return range(self.encoder_depth), range(self.encoder_depth, len(self.blocks))

    @property
    def label_table(self) -> Tensor:
        return self.y_embedder.embedding_table.weight

    def outputs(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """As of LabelNetwork. H and W are input_size, or other multiples of patch_size."""
        height, width = (side // self.patch_size for side in x.shape[2:])
        rope = spread_rope(height, width, head_width=self.head_width, device=x.device)
        time, labels = self.t_embedder(t), required(labels)
        y = labels if labels.is_floating_point() else self.y_embedder(labels)

        encoder, decoder = self.parts

        def encoded() -> Tensor:
            tokens = self.through(encoder, self.s_embedder(x), F.silu(time + y), rope, walk)
            return F.silu(time.unsqueeze(1) + tokens)

        s = walk.encoded(encoded) if isinstance(walk, EncoderWalk) else encoded()
        patches = self.final_layer(self.through(decoder, self.x_embedder(x), s, rope, walk), s)
        return F.fold(patches.transpose(1, 2), x.shape[2:], self.patch_size, stride=self.patch_size)

    def through(self, numbers: range, tokens: Tensor, c: Tensor, rope: Rope, walk: Walk | None) -> Tensor:
        """The tokens after the blocks with these numbers."""
        for number in numbers:
            block = self.blocks[number]
            if walk is None:
                tokens = block(tokens, c, rope)
            else:
                tokens = walk(number, cast(TransformerBlock, block), tokens, c, rope)
        return tokens


def spread_rope(height: int, width: int, *, head_width: int, device: torch.device) -> Rope:
    """Rotations of a grid of patches whose first is at 0 and whose last at LAST_POSITION, in rows and in columns.

    Pairs of channels alternate: pair 2 k turns by the column and pair 2 k + 1 by the row, times
    1 / 10000^(4 k / head_width).
    """
    frequencies = 1 / 10_000 ** (torch.arange(0, head_width, 4, device=device)[: head_width // 4].float() / head_width)
    rows, columns = (
        torch.linspace(0, LAST_POSITION, side, device=device)[:, None] * frequencies for side in (height, width)
    )
    grid = (height, width, head_width // 4)
    angles = torch.stack([columns[None].expand(grid), rows[:, None].expand(grid)], dim=-1)
    angles = angles.reshape(height * width, -1).repeat_interleave(2, dim=-1)
    return angles.cos(), angles.sin()


def infer_ddt(
    weights: Mapping[str, Tensor],
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    in_context_start: int | None = None,
    encoder_depth: int | None = None,
    input_size: int | None = None,
) -> dict[str, Any]:
    """The arguments of DDT that fit these weights.

    num_heads, num_classes, encoder_depth, input_size: None to take what the weights or the published sizes say.
    Raises NoDiT if the weights contradict each other, ValueError for a wrong or missing setting.
    """
    if in_context_start is not None:
        raise ValueError(f"model.in_context_start={in_context_start}: DDT has no in_context_start: leave it null")
    hidden_size, features = shape_of(weights, "x_embedder.proj.weight", axes=2)
    mlp_width, _ = shape_of(weights, W1, axes=2)
    patch_size, depth = math.isqrt(features // IN_CHANNELS), depth_of(weights)
    if IN_CHANNELS * patch_size**2 != features:
        raise NoDiT(f"x_embedder.proj.weight has {features} columns, which are no patches of {IN_CHANNELS} channels")
    heads = heads_of(weights, hidden_size, num_heads)
    if hidden_size // heads % 4:
        raise NoDiT(f"its heads are {hidden_size // heads} wide, which is not a multiple of 4")
    encoder = ENCODER_DEPTHS.get((depth, hidden_size)) if encoder_depth is None else encoder_depth
    if encoder is None:
        raise ValueError(
            f"model.encoder_depth is needed: how many of its {depth} blocks are the encoder, which is unknown for the "
            f"width {hidden_size}"
        )
    whole("model.encoder_depth", encoder, minimum=1, maximum=depth - 1)
    side = whole("model.input_size", INPUT_SIZE if input_size is None else input_size, minimum=1)
    if side % patch_size:
        raise ValueError(f"model.input_size={side} must be a multiple of the patch size {patch_size}")
    found = classes_of(weights, num_classes)
    if not found["num_classes"]:
        raise NoDiT("it has no labels")
    return {
        "input_size": side,
        "patch_size": patch_size,
        "in_channels": IN_CHANNELS,
        "hidden_size": hidden_size,
        "depth": depth,
        "encoder_depth": encoder,
        "num_heads": heads,
        **found,
        "mlp_width": mlp_width,
    }
