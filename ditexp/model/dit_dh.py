"""DiT-DH: a DiT whose head is wide and shallow, for latents of many channels (Zheng et al. 2025, arXiv 2510.11690).

State-dict keys and arithmetic are those of the official checkpoints of RAE, which therefore load unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ditexp.core import EncoderWalk, TransformerBlock, Walk
from ditexp.model.architecture import NoDiT, check_rotations, classes_of, depth_of, heads_of, shape_of
from ditexp.model.dit import Block
from ditexp.model.label_network import LabelNetwork
from ditexp.model.layers import BlockOptions, FinalLayer, LabelEmbedder, PatchEmbed, unpatchify
from ditexp.model.positions import Rope, image_rope, interpolated, sincos_position_embedding
from ditexp.values import required

OPTIONS = BlockOptions(norm="rms", mlp="swiglu")  # those of LightningDiT
ROTATIONS = {"trunk": "enc_feat_rope", "head": "dec_feat_rope"}  # the names of the tables
TRUNK, HEAD = "s_embedder.proj.weight", "x_embedder.proj.weight"


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """The blocks of the trunk or of the head. mlp_ratio: the hidden width of their MLPs, relative to `width`."""

    width: int
    depth: int
    num_heads: int
    mlp_ratio: float


class FourierEmbedder(nn.Module):
    """Time (B,) in [0, 1] -> (B, D) through [sin, cos] of random frequencies W, which were drawn before training."""

    num_frequencies = 256

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(self.num_frequencies), requires_grad=False)
        self.mlp = nn.Sequential(
            nn.Linear(2 * self.num_frequencies, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size)
        )

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.W * 2 * math.pi
        return self.mlp(torch.cat([angles.sin(), angles.cos()], dim=-1))


class DiTDH(LabelNetwork):
    """noise - data at a time from 0 (data) to 1 (noise), of latents (C, H, W); every pixel is a token.

    Trunk and head both embed x. The trunk's tokens, modulated by time and label, become what modulates each token of
    the head. Only the trunk has a position embedding beside its rotations.
    """

    kind = "dit_dh"
    patch_size = 1

    def __init__(
        self, *, input_size: int, in_channels: int, trunk: Blocks, head: Blocks, num_classes: int, has_null: bool = True
    ) -> None:
        super().__init__()
        self.input_size, self.in_channels, self.hidden_size = input_size, in_channels, trunk.width
        self.num_classes, self.has_null = num_classes, has_null
        self.trunk, self.head = trunk, head
        self.s_embedder = PatchEmbed(in_channels, trunk.width, 1)
        self.x_embedder = PatchEmbed(in_channels, head.width, 1)
        self.s_projector = nn.Linear(trunk.width, head.width)
        self.t_embedder = FourierEmbedder(trunk.width)
        self.y_embedder = LabelEmbedder(num_classes, trunk.width, has_null)
        self.pos_embed = nn.Parameter(sincos_position_embedding(trunk.width, input_size), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(part.width, part.num_heads, part.mlp_ratio, OPTIONS)
            for part in (trunk, head)
            for _ in range(part.depth)
        )
        self.final_layer = FinalLayer(head.width, 1, in_channels, OPTIONS.norm)

    @property
    def label_table(self) -> Tensor:
        return self.y_embedder.embedding_table.weight

    @property
    def depth(self) -> int:
        return self.trunk.depth

    @property
    def parts(self) -> tuple[range, ...]:
        return range(self.trunk.depth), range(self.trunk.depth, len(self.blocks))

    def check_file(self, weights: Mapping[str, Tensor]) -> None:
        """Raise NoDiT if a file has other tables of rotations than this network computes."""
        for name, part in ((ROTATIONS["trunk"], self.trunk), (ROTATIONS["head"], self.head)):
            rope = self.rotations(part, self.input_size, self.input_size, torch.device("cpu"))
            check_rotations(weights, name, rope, self.input_size)

    def rotations(self, part: Blocks, height: int, width: int, device: torch.device) -> Rope:
        head_width = part.width // part.num_heads
        return image_rope(height, width, trained_side=self.input_size, head_width=head_width, device=device)

    def outputs(self, x: Tensor, t: Tensor, labels: Tensor | None = None, walk: Walk | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), labels (B,) int64 or embeddings (B, D) -> (B, C, H, W)."""
        labels = required(labels)
        time, (height, width) = self.t_embedder(t), x.shape[2:]
        y = labels if labels.is_floating_point() else self.y_embedder(labels)

        def through(part: Blocks, numbers: range, tokens: Tensor, c: Tensor) -> Tensor:
            rope = self.rotations(part, height, width, x.device)
            for number in numbers:
                block = cast(TransformerBlock, self.blocks[number])
                tokens = block(tokens, c, rope) if walk is None else walk(number, block, tokens, c, rope)
            return tokens

        of_trunk, of_head = self.parts

        def encoded() -> Tensor:
            tokens = self.s_embedder(x) + interpolated(self.pos_embed, self.input_size, height, width)
            tokens = through(self.trunk, of_trunk, tokens, F.silu(time + y))  # each block applies SiLU again
            return self.s_projector(F.silu(time.unsqueeze(1) + tokens))

        s = walk.encoded(encoded) if isinstance(walk, EncoderWalk) else encoded()
        tokens = through(self.head, of_head, self.x_embedder(x), s)
        return unpatchify(self.final_layer(tokens, s), height, width, patch_size=1)


def infer_dit_dh(
    weights: Mapping[str, Tensor],
    *,
    num_heads: int | None = None,
    num_classes: int | None = None,
    in_context_start: int | None = None,
) -> dict[str, Any]:
    """The arguments of DiTDH that fit these weights. num_heads: of the trunk. Raises as `infer_architecture` does."""
    if in_context_start is not None:
        raise ValueError(f"model.in_context_start={in_context_start}: DiT-DH has no in-context tokens: leave it null")
    trunk_width, in_channels, patch_size, _ = shape_of(weights, TRUNK, axes=4)
    head_width = shape_of(weights, HEAD, axes=4)[0]
    tokens, depth = shape_of(weights, "pos_embed", axes=3)[1], depth_of(weights)
    side = math.isqrt(tokens)
    if patch_size != 1:
        raise NoDiT(f"{TRUNK} is of patches of {patch_size}, not of 1")
    if side**2 != tokens:
        raise NoDiT(f"pos_embed has {tokens} positions, which is not a square")
    widths = [shape_of(weights, f"blocks.{number}.attn.proj.weight", axes=2)[0] for number in range(depth)]
    of_trunk = widths.count(trunk_width)
    if trunk_width == head_width:
        raise NoDiT(f"its trunk and its head are both {trunk_width} wide: no weight tells where the head begins")
    if widths != [trunk_width] * of_trunk + [head_width] * (depth - of_trunk):
        raise NoDiT(f"its blocks are not first {trunk_width} wide and then {head_width}")

    def blocks(width: int, count: int, first: int, part: str, heads: int | None) -> Blocks:
        hidden = shape_of(weights, f"blocks.{first}.mlp.w12.weight", axes=2)[0] // 2
        heads = heads_of(weights, width, heads, key=f"{ROTATIONS[part]}.freqs_cos")
        return Blocks(width=width, depth=count, num_heads=heads, mlp_ratio=hidden / width)

    return {
        "input_size": side,
        "in_channels": in_channels,
        "trunk": blocks(trunk_width, of_trunk, 0, "trunk", num_heads),
        "head": blocks(head_width, depth - of_trunk, of_trunk, "head", None),
        **classes_of(weights, num_classes),
    }
